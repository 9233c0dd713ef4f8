"""Documents that repeat what the code says, held against the code."""

import re
from pathlib import Path

from limes.sensor.bpf.hooks import SIGNALS
from limes.v1 import schema

ROOT = Path(__file__).parents[2]


def hooks_table() -> str:
    lines = ["| signal | plan | program | hook | not seen |", "|---|---|---|---|---|"]
    for signal in SIGNALS:
        for way in signal.ways:
            for program in way.programs:
                marks = " (optional)" * program.optional + " (every syscall)" * program.syscall
                lines.append(
                    f"| {signal.name} | {way.plan} | `{program.name}` | `{program.hook}`{marks} "
                    f"| {way.blind} |"
                )
    return "\n".join(lines)


def test_the_table_of_hooks_is_in_the_readme_of_the_kernel_side() -> None:
    """bpf/lib/README.md shows exactly the table that the loader works by."""
    assert hooks_table() in (ROOT / "bpf/lib/README.md").read_text()


def test_every_document_is_reachable() -> None:
    """A page that no other page names is found by nobody."""
    readme = (ROOT / "README.md").read_text() + (ROOT / "ARCHITECTURE.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert f"docs/{page.name}" in readme, page.name


def losses_table() -> set[tuple[str, str]]:
    """Stage and cause of each row of the operator's table, but for families (`*_full`)."""
    text = (ROOT / "docs/operations.md").read_text()
    table = text.split("| stage | cause |")[1].split("\n\n")[0]
    rows = [line.split("|") for line in table.splitlines() if line.startswith("| ")]
    return {
        (cells[1].strip(), cause)
        for cells in rows
        for cause in re.findall(r"`([a-z_]+)`", cells[2])
    }


def test_operators_are_told_what_to_do_about_every_loss() -> None:
    """The table names each cause outside the kernel with its stage, and none that there is not."""
    causes = {(stage, cause) for cause, stage in schema.CAUSES.items()}
    kernel = {("kernel", counter.name) for counter in schema.COUNTERS}
    assert causes <= losses_table() <= causes | kernel


def test_every_cause_of_the_registry_is_counted_somewhere_and_no_other() -> None:
    """What the registry lists is what the code says."""
    sides = ("sensor/limes/sensor", "control/limes/control")
    code = "".join(path.read_text() for side in sides for path in (ROOT / side).rglob("*.py"))
    assert [cause for cause in schema.CAUSES if f'"{cause}"' not in code] == []
    spool = (ROOT / "sensor/limes/sensor/spool.py").read_text()
    declared = set(re.findall(r'^[A-Z_]+: Final = "([a-z]+_[a-z]+)"$', spool, re.MULTILINE))
    assert "spool_full" in declared
    assert declared <= schema.CAUSES.keys()
