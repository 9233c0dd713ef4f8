"""Owns the root image: Debian packages installed by mmdebstrap, with nothing of the host in it."""

from pathlib import Path

from harness import apt, cache, erofs, host
from harness.config import Root

HOSTNAME = "limes-vm"
_EXCLUDED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")


def root_image(root: Root) -> Path:
    """Return the erofs file of the packages, built first when its inputs changed."""
    inputs = {
        "suites": root.suites,
        "packages": root.packages,
        "recipe": cache.file_hash(Path(__file__)),
    }
    return cache.entry("root", inputs, lambda draft: _build(root, draft)) / "root.erofs"


def _build(root: Root, draft: Path) -> None:
    host.require_root("Building the root image")
    tree = draft / "tree"
    sources = draft / "sources.list"
    sources.write_text(apt.host_mirror().sources(root.suites))
    host.run(
        [
            # What mmdebstrap mounts in the tree stays its own: if it is killed half-way, the tree
            # can be removed without reaching into a /dev or /proc that is still mounted there.
            *(
                host.tool("setpriv"),
                "--pdeathsig=TERM",
                "--",
                host.tool("unshare"),
                "--mount",
                "--",
            ),
            *(host.tool("mmdebstrap"), "--mode=root", "--variant=essential", "--quiet"),
            *(f"--include={','.join(root.packages)}", "--format=directory"),
            *(f"--aptopt={line}" for line in apt.acquire_options()),
            *(f"--dpkgopt=path-exclude={path}" for path in _EXCLUDED),
            *(root.suites[0], tree, sources),
        ]
    )
    sources.unlink()
    _finish(tree)
    erofs.pack(tree, draft / "root.erofs")


def _finish(tree: Path) -> None:
    # The guest has no network: where its packages came from is of no use to it.
    for listed in (tree / "etc/apt/sources.list.d").iterdir():
        listed.unlink()
    (tree / "etc/apt/apt.conf.d/99mmdebstrap").unlink(missing_ok=True)
    (tree / "etc/hosts").write_text(f"127.0.0.1 localhost {HOSTNAME}\n::1 localhost\n")
    (tree / "etc/hostname").write_text(f"{HOSTNAME}\n")
