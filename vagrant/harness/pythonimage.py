"""Owns the image of the guest's virtual environment: what the distribution requires, no more."""

import sys
import tomllib
from pathlib import Path

from harness import cache, erofs, host
from harness.config import REPO_DIR, Python
from harness.errors import ConfigError

# The guest's virtual environment; the drill and the daemons run from it.
VENV = "/opt/limes"
_GUEST_PYTHON = "3.11"
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def python_image(python: Python) -> Path:
    """Return the erofs file that holds VENV, built first when its inputs changed."""
    wanted = requirements(python)
    inputs = {"requirements": wanted, "recipe": cache.file_hash(Path(__file__))}
    return cache.entry("python", inputs, lambda draft: _build(wanted, draft)) / "python.erofs"


def requirements(python: Python, project_file: Path = REPO_DIR / "pyproject.toml") -> list[str]:
    """Return the requirements of the distribution, of its chosen extras, and the packages."""
    project = tomllib.loads(project_file.read_text())["project"]
    extras = project.get("optional-dependencies", {})
    wanted = {*project.get("dependencies", ()), *python.packages}
    for extra in python.extras:
        if extra not in extras:
            raise ConfigError(
                f"Looked for extra {extra!r} in {project_file.name}, found {', '.join(extras)}. "
                "Correct [python] extras in machines.toml."
            )
        wanted.update(extras[extra])
    return sorted(wanted)


def _build(wanted: list[str], draft: Path) -> None:
    tree = draft / "tree"
    venv = tree / VENV.lstrip("/")
    packages = venv / f"lib/python{_GUEST_PYTHON}/site-packages"
    host.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--root-user-action=ignore"),
            *("--only-binary=:all:", f"--python-version={_GUEST_PYTHON}", "--implementation=cp"),
            *(f"--platform={platform}" for platform in _PLATFORMS),
            *("--target", str(packages), *wanted),
        ]
    )
    (venv / "bin").mkdir()
    for name in ("python", "python3"):
        (venv / "bin" / name).symlink_to("/usr/bin/python3")
    # bcc comes from the distribution, so the environment must see the system's packages.
    (venv / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = true\n")
    erofs.pack(tree, draft / "python.erofs")
