"""Rules of a test's own, and a database in memory that they run on."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from uuid import NAMESPACE_DNS, uuid5

import pytest
from limes.control.policy import install_policy, parse_policy
from limes.control.rules.given import Event, events_of
from limes.control.rules.load import read_rule
from limes.control.rules.model import Rule
from limes.control.rules.scratch import Scratch

MakeRule = Callable[..., Rule]

# Alerts on every program called /bad, wherever it runs.
BAD = """-- A program called /bad began.
SELECT
    event_time, host_id, boot_id, cgroup_id, cgroup_path, process_entity_id, process_exec_id,
    'began: ' || process_executable AS summary,
    [evidence_id('process_execs', sensor_epoch, event_seq)] AS evidence,
    FALSE AS simulated_device
FROM new_process_execs
WHERE TRUE
    AND process_executable = '/bad' -- key: the name
"""
YAML = """\
id: {id}
name: {name}
version: {version}
status: test
severity: {severity}
description: A program began that must not.
attack: [T1059]
requires:
  process_execs: [process_executable]
false_positives: [None is known.]
blind_spots: [Another name.]
triage: [Look at the tree.]
dedup_key: [cgroup_path]
dedup_window: {dedup_window}
window: {window}
"""
POLICY = """
[[job_class]]
name = "training"
cgroups = ["/jobs/job_*"]
"""


@pytest.fixture
def make_rule(tmp_path: Path) -> MakeRule:
    """Write a rule's files and return the rule."""

    def make(
        name: str = "bad_program",
        sql: str = BAD,
        *,
        version: int = 1,
        severity: str = "high",
        dedup_window: str = "1h",
        window: str = "0s",
        replace: tuple[str, str] = ("", ""),
    ) -> Rule:
        text = YAML.format(
            id=uuid5(NAMESPACE_DNS, name),
            name=name,
            version=version,
            severity=severity,
            dedup_window=dedup_window,
            window=window,
        )
        path = tmp_path / "pack" / "execution" / f"{name}.yml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace(*replace) if replace[0] else text)
        path.with_suffix(".sql").write_text(sql)
        (tmp_path / "pack" / "pack.yml").write_text("name: mine\ndescription: Tests.\n")
        return read_rule(path, pack="mine")

    return make


@pytest.fixture
def scratch() -> Iterator[Scratch]:
    """A database in memory with a policy."""
    with Scratch() as scratch:
        with scratch.store.cursor() as cursor:
            install_policy(cursor, parse_policy(POLICY, source="test"))
        yield scratch


def program(exec_id: int, executable: str = "/bad", **columns: object) -> dict[str, object]:
    """Return an exec within a job, as cases write it."""
    row = {
        "process_exec_id": exec_id,
        "process_executable": executable,
        "cgroup_path": "/jobs/job_2",
    }
    return {"process_execs": {**row, **columns}}


def made(*given: Mapping[str, object]) -> tuple[Event, ...]:
    """Return the events of what a case would give."""
    return events_of(given)  # type: ignore[arg-type]
