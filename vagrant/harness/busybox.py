"""Owns the static busybox of the initrd, fetched as a package."""

import shutil
from pathlib import Path

from harness import apt, cache
from harness.config import Initrd


def busybox(initrd: Initrd) -> Path:
    """Return the static busybox, fetched first when it is not in the cache."""
    inputs = {
        "suites": initrd.suites,
        "package": initrd.busybox_package,
        "recipe": cache.file_hash(Path(__file__)),
    }
    return cache.entry("busybox", inputs, lambda draft: _build(initrd, draft)) / "busybox"


def _build(initrd: Initrd, draft: Path) -> None:
    unpacked = draft / "unpacked"
    with apt.apt_for(initrd.suites) as fetch:
        fetch.unpack([initrd.busybox_package], unpacked)
    next(unpacked.glob("**/bin/busybox")).rename(draft / "busybox")
    shutil.rmtree(unpacked)
