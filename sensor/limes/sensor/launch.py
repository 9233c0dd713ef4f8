"""Starts the sensor's own process from another program, such as the `limes` command.

Invariant: the process that watches the kernel holds nothing of the program that started it.
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn


def command(config: Path | None, settings: Mapping[str, object]) -> list[str]:
    """The command line of `python -m limes.sensor` with these settings; None is left out."""
    # -P: with -m alone, whatever lies in the current directory could be imported as root.
    out = [sys.executable, "-P", "-m", "limes.sensor"]
    if config is not None:
        out += ["--config", str(config)]
    for key, value in settings.items():
        if value is not None:
            out += ["--set", f"{key}={_text(value)}"]
    return out


def replace_process(config: Path | None, settings: Mapping[str, object]) -> NoReturn:
    """Becomes the sensor: same pid, same environment, a fresh and smaller interpreter."""
    argv = command(config, settings)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(argv[0], argv)  # noqa: S606 - the interpreter that runs this, with a list


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return json.dumps(list(value), ensure_ascii=False)
    return str(value)
