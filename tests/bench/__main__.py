"""Runs every benchmark, one after the other: `make bench`. Figures go into docs/performance.md."""

import subprocess
import sys

BENCHES = (
    "bench_cost",
    "bench_decode",
    "bench_ring",
    "bench_sensor",
    "bench_control",
    "bench_hunt",
)


def main() -> int:
    """Exit status 1 when a benchmark could not finish, or found an event unaccounted for."""
    failed = 0
    for name in BENCHES:
        print(f"== {name}", flush=True)
        module = f"tests.bench.{name}"
        failed += subprocess.run([sys.executable, "-m", module], check=False).returncode != 0
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
