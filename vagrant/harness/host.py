"""Owns running host tools: a tool that is missing or fails becomes one line with its last words."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from harness.errors import BuildError, HostError

# Which Debian package brings a tool, for the message when it is missing.
TOOL_PACKAGES = {
    "apt-get": "apt",
    "depmod": "kmod",
    "dpkg-deb": "dpkg",
    "mkfs.erofs": "erofs-utils",
    "mmdebstrap": "mmdebstrap",
    "qemu-system-x86_64": "qemu-system-x86",
    "ssh-keygen": "openssh-client",
    "setpriv": "util-linux",
    "unshare": "util-linux",
}
_LAST_LINES = 15


def tool(name: str) -> str:
    """Return the path of a host tool. Raises HostError that names the package to install."""
    # Debian keeps depmod and mkfs.erofs where an ordinary user's PATH does not look.
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        raise HostError(
            f"Looked for {name} on this host and found none. "
            f"Run: apt-get install {TOOL_PACKAGES.get(name, name)}"
        )
    return path


def require_root(purpose: str) -> None:
    """Raise HostError unless the process is root."""
    if os.geteuid() != 0:
        raise HostError(f"{purpose} needs root; this is user {os.geteuid()}. Run it with sudo.")


def run(command: Sequence[str | Path], *, cwd: Path | None = None, timeout: float = 900) -> str:
    """Return the standard output of a host command. Raises BuildError with its last lines."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False
        )
    except OSError as error:
        raise BuildError(f"Cannot start {words[0]}: {error.strerror}.") from error
    except subprocess.TimeoutExpired as error:
        raise BuildError(
            f"{words[0]} was still running after {timeout:.0f} s. Try again."
        ) from error
    if done.returncode != 0:
        said = "\n  ".join((done.stderr or done.stdout).strip().splitlines()[-_LAST_LINES:])
        raise BuildError(f"`{' '.join(words)}` ended with {done.returncode}:\n  {said}")
    return done.stdout
