"""Finding cgroup v2 on plain and hybrid hosts."""

from pathlib import Path

import pytest
from limes.drill.cgroups import find_root
from limes.drill.errors import WorldError

V1 = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n"


@pytest.mark.parametrize(
    ("mount", "root"),
    [
        ("26 25 0:23 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup"),
        ("41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 none rw\n", "/sys/fs/cgroup/unified"),
        (r"41 31 0:38 / /mnt/a\040b rw - cgroup2 none rw" + "\n", "/mnt/a b"),
    ],
)
def test_the_root_is_where_mountinfo_says(tmp_path: Path, mount: str, root: str) -> None:
    """Unified, hybrid, and with an escaped space."""
    file = tmp_path / "mountinfo"
    file.write_text(V1 + mount)
    assert find_root(file) == Path(root)


@pytest.mark.parametrize(
    "mounts", [V1, V1 + "41 31 0:38 /inner /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"]
)
def test_without_a_whole_cgroup2_mount_the_message_says_how_to_mount(
    tmp_path: Path, mounts: str
) -> None:
    """A v1-only host, and one that sees a subtree only."""
    file = tmp_path / "mountinfo"
    file.write_text(mounts)
    with pytest.raises(WorldError, match="mount -t cgroup2"):
        find_root(file)
