"""What the kernel lays per-CPU values out for."""

from pathlib import Path

import pytest
from limes.sensor.bpf.syscall import possible_cpus


@pytest.mark.parametrize(("text", "count"), [("0\n", 1), ("0-3\n", 4), ("0-1,4,8-11\n", 7)])
def test_possible_cpus_are_counted_not_numbered(tmp_path: Path, text: str, count: int) -> None:
    """A mask with holes has as many values as it has members."""
    path = tmp_path / "possible"
    path.write_text(text)
    assert possible_cpus(path) == count
