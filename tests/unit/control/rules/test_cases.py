"""Cases: events as people write them, four orders of arrival, and conditions taken out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from limes.control.rules.cases import BROKEN, ORDERS, batches, read_cases, run_cases
from limes.control.rules.given import BOOT_NS, START, events_of
from limes.control.rules.load import load_pack
from limes.control.rules.mutants import mutants, notice
from limes.control.rules.scratch import Scratch

from tests.unit.control.rules.conftest import BAD, MakeRule
from tests.unit.control.rules.test_lint import CASES


def row(kind: str, **columns: Any) -> Mapping[str, Any]:
    return events_of([{kind: columns}])[-1].row


def test_columns_are_written_as_the_views_show_them() -> None:
    """Words, addresses, lists of arguments and seconds become what the tables hold."""
    got = row(
        "connections",
        at=1.5,
        event_action="connection_failed",
        network_transport="udp",
        destination_ip="203.0.113.9",
        source_ip="2001:db8::1",
        process_exec_id=7,
    )
    assert (got["event_time"] - START).total_seconds() == 1.5
    assert got["event_boot_time_ns"] == BOOT_NS + 1_500_000_000
    assert (got["event_action"], got["network_transport"], got["network_type"]) == (3, 17, 2)
    assert (got["destination_ip_hi"], got["destination_ip_lo"]) == (0, 0xFFFF_CB00_7109)
    assert got["source_ip_hi"] == 0x2001_0DB8_0000_0000
    assert (got["process_entity_id"], got["connection_error"]) == (7, -1)


def test_arguments_may_be_a_line_or_a_list() -> None:
    """Each ends with NUL, as the kernel has them."""
    line = row("process_execs", process_command_line="ssh -o 'A B' h")
    words = row("process_execs", process_args=["ssh", "-o", "A B", "h"])
    assert line["process_args"] == words["process_args"] == "ssh\0-o\0A B\0h\0"


def test_every_cgroup_is_named_first_and_once_a_host() -> None:
    """Two paths, or one path on two hosts, are two cgroups."""
    events = events_of(
        [
            {"process_execs": {"cgroup_path": "/a"}},
            {"process_forks": {"cgroup_path": "/a"}},
            {"process_execs": {"cgroup_path": "/b"}},
            {"process_execs": {"cgroup_path": "/a", "host_id": "host-2"}},
        ]
    )
    assert [event.kind for event in events[:3]] == ["cgroup_events"] * 3
    ids = [event.row["cgroup_id"] for event in events[3:]]
    assert ids == [1000, 1000, 1001, 1002]
    assert [event.seq for event in events] == list(range(1, 8))
    assert events[2].source.host_id == "host-2"


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({"process_exec": {}}, "process_exec is no kind"),
        ({"process_execs": {}, "connections": {}}, "one kind"),
        ({"process_execs": {"destination_port": 1}}, "no column destination_port"),
        ({"connections": {"event_action": "opened"}}, "no event_action opened"),
        ({"connections": {"destination_ip": "1.2.3"}}, "1.2.3"),
    ],
)
def test_what_the_registry_does_not_have_is_refused(item: dict[str, Any], reason: str) -> None:
    """A misspelt column would prove nothing."""
    with pytest.raises(ValueError, match=reason):
        events_of([item])


def test_each_order_brings_every_event_once() -> None:
    """Names come late in one, observations backwards in another."""
    events = events_of(
        [
            {"process_execs": {"cgroup_path": "/a", "process_exec_id": 1}},
            {"connections": {"process_exec_id": 1}},
            {"gpu_events": {"process_exec_id": 1}},
        ]
    )
    seen = {order: [e.seq for batch in batches(events, order) for e in batch] for order in ORDERS}
    assert seen == {
        "together": [1, 2, 3, 4],
        "one_by_one": [1, 2, 3, 4],
        "images_last": [3, 4, 1, 2],
        "backwards": [1, 2, 4, 3],
    }
    assert [len(batches(events, order)) for order in ORDERS] == [1, 4, 4, 4]


@pytest.fixture
def folder(make_rule: MakeRule, tmp_path: Path) -> Path:
    make_rule().cases_path.write_text(CASES)
    return tmp_path / "pack"


def test_cases_that_hold_pass_in_every_order(folder: Path) -> None:
    """Orders in which the same arrives are played once."""
    results = run_cases(load_pack(folder))
    assert [result.order for result in results] == [*["together", "one_by_one"] * 2, "together"]
    assert all(result.passed for result in results)


@pytest.mark.parametrize(
    ("replace", "case", "problem"),
    [
        (
            ("expect: [{cgroup_path: /a}]", "expect: [{cgroup_path: /b}]"),
            "it began",
            "did not come",
        ),
        (("expect: [{cgroup_path: /a}]", "expect: [{severity: low}]"), "it began", "did not come"),
        (("expect: [{cgroup_path: /a}]", "expect: [{summary: gone}]"), "it began", "did not come"),
        (("expect: [{cgroup_path: /a}]", "expect: [{}, {}]"), "it began", "did not come"),
        (
            ("expect: [{cgroup_path: /a}]", "expect: []"),
            "it began",
            "did not expect /a: began: /bad",
        ),
        (
            ("given: []\n    expect: []", "given: []\n    expect: [{}]"),
            "nothing began",
            "did not come",
        ),
    ],
)
def test_a_case_that_does_not_hold_says_how(
    folder: Path, replace: tuple[str, str], case: str, problem: str
) -> None:
    """An alert too few, too many, or another one."""
    (folder / "execution" / "bad_program.cases.yml").write_text(CASES.replace(*replace))
    assert replace[0] in CASES
    failed = [result for result in run_cases(load_pack(folder)) if not result.passed]
    assert {result.case for result in failed} == {case}
    assert {result.order for result in failed} <= {"together", "one_by_one"}
    assert problem in failed[0].problem


def test_a_rule_that_cannot_run_fails_even_cases_without_alerts(
    folder: Path, make_rule: MakeRule
) -> None:
    """Silence of a broken rule is no proof."""
    make_rule(sql=BAD.replace("process_executable = ", "no_such_column = "))
    results = run_cases(load_pack(folder), orders=["together"])
    assert all(result.problem.startswith(BROKEN) for result in results)


NESTED = """-- Nested.
SELECT 1
WHERE TRUE
    AND a -- key: one line
    AND ( -- key begin: several lines
        b
        AND c -- key: within
    ) -- key end
    AND d
"""


def test_a_mutant_lacks_one_marked_condition(make_rule: MakeRule) -> None:
    """A line, a block, and a line within a block."""
    found = mutants(make_rule(sql=NESTED))
    assert [(m.line, m.reason) for m in found] == [
        (4, "one line"),
        (5, "several lines"),
        (7, "within"),
    ]
    assert [m.rule.sql.splitlines() for m in found] == [
        [line for line in NESTED.splitlines() if line != "    AND a -- key: one line"],
        [*NESTED.splitlines()[:4], "    AND d"],
        [line for line in NESTED.splitlines() if "within" not in line],
    ]


def test_a_case_notices_a_condition_that_is_gone(folder: Path) -> None:
    """And none does when the case for it is gone; a mutant that cannot run proves nothing."""
    pack = load_pack(folder)
    (rule,) = pack.rules
    (mutant,) = mutants(rule)
    cases = read_cases(rule)
    with Scratch() as scratch:
        assert notice(scratch, pack, mutant, cases) == "another began"
        assert notice(scratch, pack, mutant, cases[:1]) == ""
        broken = type(mutant)(rule=load_broken(rule), line=1, reason="x")
        with pytest.raises(ValueError, match="syntax error"):
            notice(scratch, pack, broken, cases)


def load_broken(rule: Any) -> Any:
    from dataclasses import replace

    return replace(rule, sql=rule.sql.replace("WHERE TRUE", "WHERE"))
