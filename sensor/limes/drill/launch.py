"""Owns the moment before a drill process starts: namespace and cgroup first, then exec.

Invariant: it stands alone (standard library, run by path), so that what is executed has the same
pid, a clean command line and no interpreter of ours above it.

Usage: launch.py [--net PATH | --new-net] [--etc DIR] [--cgroup DIR] -- PROGRAM [ARGUMENT...]
"""

import ctypes
import os
import sys

_CLONE_NEWNS = 0x00020000
_CLONE_NEWNET = 0x40000000
_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_PRIVATE = 0x40000

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)


def _mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    result = _libc.mount(
        source.encode(), target.encode(), kind.encode(), flags, data.encode() or None
    )
    _check(result, f"mount {target}")


def join_network(path: str) -> None:
    """Enter the network namespace behind a /proc/<pid>/ns/net path."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    _check(_libc.setns(descriptor, _CLONE_NEWNET), f"setns {path}")
    os.close(descriptor)


def new_network() -> None:
    """Enter a fresh network namespace."""
    _check(_libc.unshare(_CLONE_NEWNET), "unshare network")


def private_accounts(directory: str) -> None:
    """Give this process, and no other, its own /run/sshd, passwd and shadow."""
    _check(_libc.unshare(_CLONE_NEWNS), "unshare mount")
    _mount("none", "/", "", _MS_REC | _MS_PRIVATE)
    for name in ("passwd", "shadow"):
        _mount(f"{directory}/{name}", f"/etc/{name}", "", _MS_BIND)
    _mount("tmpfs", "/run", "tmpfs", 0, "mode=0755,size=64k")
    os.mkdir("/run/sshd", 0o755)  # noqa: PTH102 - pathlib costs start-up time under emulation


def join_cgroup(directory: str) -> None:
    """Move this process into a cgroup v2 directory."""
    descriptor = os.open(f"{directory}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
    os.write(descriptor, b"0")
    os.close(descriptor)


def main(arguments: list[str]) -> None:
    """Do what the options say in the order given, then become the program."""
    actions = {"--net": join_network, "--etc": private_accounts, "--cgroup": join_cgroup}
    while arguments[0] != "--":
        option = arguments.pop(0)
        if option == "--new-net":
            new_network()
        else:
            actions[option](arguments.pop(0))
    os.execvp(arguments[1], arguments[1:])  # noqa: S606 - becoming the program is the purpose


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as problem:
        sys.exit(f"launch: {problem}")
