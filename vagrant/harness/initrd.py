"""Owns the initrd: busybox, early modules, `init.sh` and the agent, as they are at each boot."""

from pathlib import Path

from harness import cpio
from harness.kernel import Kernel

_HARNESS = Path(__file__).parent
_GUEST = _HARNESS / "guest"


def build(busybox: Path, kernel: Kernel) -> bytes:
    """Return the initramfs archive for the kernel."""
    members = {
        # switch_root refuses to run where there is no /init.
        "init": cpio.Member(content=(_GUEST / "init.sh").read_bytes()),
        "bin/busybox": cpio.Member(content=busybox.read_bytes(), mode=0o755),
        "harness/__init__.py": cpio.Member(content=(_HARNESS / "__init__.py").read_bytes()),
    }
    for source in sorted(_GUEST.glob("*.py")):
        members[f"harness/guest/{source.name}"] = cpio.Member(content=source.read_bytes())
    for module in kernel.early:
        members[f"early/{module.name}"] = cpio.Member(content=module.read_bytes())
    return cpio.archive(members)
