"""Documents that repeat what the code says, held against the code."""

from pathlib import Path

from limes.sensor.bpf.hooks import SIGNALS

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
