"""The build backend of the package that the benign job installs; it needs nothing but Python.

Stands alone, and is copied into the package folder.
"""

import zipfile
from pathlib import Path
from typing import Any

VERSION = "0.1"


def _name() -> str:
    return Path("name.txt").read_text().strip()


def build_wheel(
    wheel_directory: str,
    config_settings: dict[str, Any] | None = None,  # noqa: ARG001 - the hook's signature
    metadata_directory: str | None = None,  # noqa: ARG001 - the hook's signature
) -> str:
    """Write a wheel with one module and return its file name."""
    name = _name()
    info = f"{name}-{VERSION}.dist-info"
    files = {
        f"{name}.py": "ANSWER = 42\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {VERSION}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    wheel = f"{name}-{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(Path(wheel_directory) / wheel, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
    return wheel
