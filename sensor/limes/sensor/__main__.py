"""The sensor as a process of its own: `python -m limes.sensor`, as the systemd unit starts it.

Invariant: nothing is imported here that only a person at a terminal needs: the daemon stays small.
"""

import argparse
import os
import sys
from pathlib import Path

# numpy's linear algebra would start a thread per CPU that never has anything to do.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
if not sys.stderr.isatty():
    # structlog imports rich when it can; 5 MB for colours that nobody sees.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]

from limes.sensor.config import load_config
from limes.sensor.errors import SensorError
from limes.sensor.run import run_sensor

CANNOT_RUN = 3


def options(arguments: list[str]) -> argparse.Namespace:
    """The command line: `--config FILE`, and `--set KEY=VALUE` for single keys."""
    parser = argparse.ArgumentParser(
        prog="python -m limes.sensor",
        description="Record what happens on this host and send it to the control plane.",
        epilog="example: python -m limes.sensor --config /etc/limes/sensor.toml",
    )
    parser.add_argument("--config", type=Path, help="configuration file (TOML)")
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="set one key of the configuration; lists are written as in TOML",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Runs the sensor; returns the exit code."""
    given = options(arguments)
    try:
        return run_sensor(load_config(given.config, settings=given.set))
    except SensorError as error:
        print(f"limes sensor: {error}", file=sys.stderr)
        return CANNOT_RUN


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
