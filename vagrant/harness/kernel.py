"""Owns a machine's kernel: fetched as a package and unpacked, never installed."""

import lzma
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from harness import apt, cache, erofs, host
from harness.config import Machine
from harness.errors import BuildError


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """What a boot needs: the image, an erofs file with /usr/lib/modules, modules to load early."""

    release: str
    vmlinuz: Path
    modules: Path
    # In the order in which they must be loaded.
    early: tuple[Path, ...]


def kernel(machine: Machine, early: tuple[str, ...]) -> Kernel:
    """Return the machine's kernel, fetched first when it is not in the cache."""
    inputs = {
        "suites": machine.suites,
        "package": machine.kernel_package,
        "early": early,
        "recipe": cache.file_hash(Path(__file__)),
    }
    kind = f"{machine.suites[0]}-{machine.kernel_package}"
    folder = cache.entry(kind, inputs, lambda draft: _build(machine, early, draft))
    return Kernel(
        release=(folder / "release").read_text(),
        vmlinuz=folder / "vmlinuz",
        modules=folder / "modules.erofs",
        early=tuple(sorted((folder / "early").iterdir())),
    )


def _build(machine: Machine, early: tuple[str, ...], draft: Path) -> None:
    unpacked = draft / "unpacked"
    with apt.apt_for(machine.suites) as fetch:
        package = fetch.dependency(machine.kernel_package, r"linux-image-[0-9][^ ,]*")
        fetch.unpack([package], unpacked)
    (image,) = unpacked.glob("boot/vmlinuz-*")
    release = image.name.removeprefix("vmlinuz-")
    image.rename(draft / "vmlinuz")
    (draft / "release").write_text(release)
    # Newer packages have merged /usr; in the guest /lib is a link to /usr/lib either way.
    modules = draft / "tree/usr/lib/modules"
    modules.parent.mkdir(parents=True)
    next(path for path in unpacked.glob("**/lib/modules") if path.is_dir()).rename(modules)
    shutil.rmtree(unpacked)
    _index(modules / release, release)
    _copy_early(modules / release, early, draft / "early")
    erofs.pack(draft / "tree", draft / "modules.erofs")


def _index(folder: Path, release: str) -> None:
    # Debian's 6.12 and later pack modules with xz, which busybox cannot load.
    for packed in folder.rglob("*.ko.xz"):
        packed.with_suffix("").write_bytes(lzma.decompress(packed.read_bytes()))
        packed.unlink()
    base = folder.parents[3]
    # depmod looks in /lib below its base.
    (base / "lib").symlink_to("usr/lib")
    host.run([host.tool("depmod"), "-b", base, release])
    (base / "lib").unlink()


def _copy_early(folder: Path, wanted: tuple[str, ...], target: Path) -> None:
    target.mkdir()
    needs = _dependencies(folder / "modules.dep")
    builtin = {_name(line) for line in (folder / "modules.builtin").read_text().splitlines()}
    order: list[str] = []
    for name in wanted:
        if name not in builtin:
            order += [path for path in _load_order(name, needs) if path not in order]
    for position, path in enumerate(order):
        shutil.copy(folder / path, target / f"{position:02d}-{Path(path).name}")


def _dependencies(index: Path) -> dict[str, list[str]]:
    """Return for each module's name its own path and those it needs, itself first."""
    needs = {}
    for line in index.read_text().splitlines():
        path, _, others = line.partition(":")
        needs[_name(path)] = [path, *others.split()]
    return needs


def _load_order(name: str, needs: dict[str, list[str]]) -> list[str]:
    if name not in needs:
        raise BuildError(f"The kernel has no module {name}. Correct machines.toml.")
    # modules.dep lists what is needed from the nearest to the farthest.
    return needs[name][::-1]


def _name(path: str) -> str:
    return re.sub(r"\.ko$", "", Path(path).name).replace("-", "_")
