"""Owns building the distribution's wheel on the host; a wheel without the BPF object is refused."""

import sys
import zipfile
from pathlib import Path

from harness import host
from harness.config import REPO_DIR
from harness.errors import BuildError

_BPF_OBJECT = "limes/sensor/_bpf/limes.bpf.o"


def build(into: Path, source: Path = REPO_DIR) -> Path:
    """Return a wheel of the source tree, its BPF object made first. Raises BuildError."""
    host.run(["make", "-s", "-C", source / "bpf"])
    host.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"),
            *("--wheel-dir", into, source),
        ]
    )
    (wheel,) = into.glob("limes-*.whl")
    with zipfile.ZipFile(wheel) as content:
        if _BPF_OBJECT not in content.namelist():
            raise BuildError(
                f"Looked for {_BPF_OBJECT} in {wheel.name} and found none. "
                "Correct the build's artifacts in pyproject.toml."
            )
    return wheel
