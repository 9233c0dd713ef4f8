"""Owns finding the programs that a drill needs, before anything is made.

Invariant: a missing program ends the drill with its Debian package named, and with nothing made.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from limes.drill.errors import MissingTool

_PACKAGES = {
    "bash": "bash",
    "cat": "coreutils",
    "git": "git",
    "ip": "iproute2",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "sshd": "openssh-server",
}
_SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_WHEELS = (Path("/usr/share/python-wheels"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """The resolved programs; `pip` is the beginning of a command line."""

    git: Path
    ip: Path
    ssh: Path
    ssh_keygen: Path
    sshd: Path
    python: Path
    pip: tuple[str, ...]


def find(search: str = _SEARCH) -> Tools:
    """Return every program needed; raises MissingTool naming what to install."""
    found = {name: shutil.which(name, path=search) for name in _PACKAGES}
    missing = sorted(name for name, path in found.items() if path is None)
    if missing:
        packages = sorted({_PACKAGES[name] for name in missing})
        raise MissingTool(
            f"Looked for {', '.join(missing)} in {search}: not installed. "
            f"Install: apt-get install {' '.join(packages)}"
        )
    paths = {name: Path(path).resolve() for name, path in found.items() if path is not None}
    python = Path(sys.executable).resolve()
    return Tools(
        git=paths["git"],
        ip=paths["ip"],
        ssh=paths["ssh"],
        ssh_keygen=paths["ssh-keygen"],
        sshd=paths["sshd"],
        python=python,
        pip=_find_pip(python),
    )


def _find_pip(python: Path) -> tuple[str, ...]:
    for candidate in dict.fromkeys((sys.executable, str(python), "/usr/bin/python3")):
        if Path(candidate).exists() and _works((candidate, "-I", "-m", "pip")):
            return candidate, "-I", "-m", "pip"
    for folder in (*_WHEELS, Path(os.__file__).parent / "ensurepip" / "_bundled"):
        for wheel in sorted(folder.glob("pip-*.whl")):
            # A wheel is a zip file that Python runs as it lies.
            command = (str(python), "-I", f"{wheel}/pip")
            if _works(command):
                return command
    raise MissingTool(
        f"Looked for pip in {sys.executable}, /usr/bin/python3 and the bundled wheels: not found. "
        "Install: apt-get install python3-pip"
    )


def _works(command: tuple[str, ...]) -> bool:
    result = subprocess.run([*command, "--version"], capture_output=True, check=False)
    return result.returncode == 0
