"""Owns turning a directory tree into a read-only image; the tree is gone afterwards."""

import shutil
from pathlib import Path

from harness import host


def pack(tree: Path, image: Path) -> None:
    """Write `tree` as an erofs file and remove it. Raises BuildError or HostError."""
    # Uncompressed: the host's page cache is free, decompression under emulation is not.
    host.run([host.tool("mkfs.erofs"), "--quiet", image, tree])
    shutil.rmtree(tree)
