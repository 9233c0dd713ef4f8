"""Owns the initrd: busybox, early modules, `init.sh` and the agent, as they are at each boot."""

from pathlib import Path

from harness import cpio
from harness.kernel import Kernel

_HARNESS = Path(__file__).parent
_GUEST = _HARNESS / "guest"


def build(busybox: Path, kernel: Kernel, *, authorized_keys: bytes = b"") -> bytes:
    """Return the initramfs archive for the kernel.

    With keys, the guest serves them over ssh on the network it then sets up, instead of the agent.
    """
    members = {
        # switch_root refuses to run where there is no /init.
        "init": cpio.Member(content=(_GUEST / "init.sh").read_bytes()),
        "bin/busybox": cpio.Member(content=busybox.read_bytes(), mode=0o755),
        "harness/__init__.py": cpio.Member(content=(_HARNESS / "__init__.py").read_bytes()),
    }
    if authorized_keys:
        members["ssh/authorized_keys"] = cpio.Member(content=authorized_keys, mode=0o600)
        members["ssh/lease"] = cpio.Member(content=(_GUEST / "lease.sh").read_bytes(), mode=0o755)
    for source in sorted(_GUEST.glob("*.py")):
        members[f"harness/guest/{source.name}"] = cpio.Member(content=source.read_bytes())
    for module in kernel.early:
        members[f"early/{module.name}"] = cpio.Member(content=module.read_bytes())
    return cpio.archive(members)
