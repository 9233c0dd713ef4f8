"""What an idle sensor weighs: start to attached, CPU, memory without ring pages, in `limes up`."""

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from limes.sensor.cgroups import find_mount

IDLE_SECONDS = 30
ROUNDS = 3


def children(pid: int) -> list[int]:
    return [int(x) for x in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> tuple[int, int]:
    """Resident KiB in all, and those of ring pages."""
    total = rings = 0
    current = ""
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if mapped := re.match(r"[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \S+\s*(.*)", line):
            current = mapped[1]
        elif line.startswith("Rss:"):
            total += int(line.split()[1])
            rings += int(line.split()[1]) if "bpf-map" in current else 0
    return total, rings


def one(cgroup: Path, state: Path) -> dict[str, float]:
    errors = state / "errors"
    limes = [sys.executable, "-m", "limes.cli.main", "up", "--state", str(state)]
    process = subprocess.Popen(
        [*limes, "--scope", f"/{cgroup.name}"], stdout=subprocess.DEVNULL, stderr=errors.open("w")
    )
    try:
        deadline = time.monotonic() + 60
        while "go on until" not in errors.read_text():
            if time.monotonic() > deadline or process.poll() is not None:
                raise SystemExit(errors.read_text())
            time.sleep(0.1)
        (sensor,) = (p for p in children(process.pid) if is_sensor(p))
        time.sleep(5)
        before, begin = cpu_seconds(sensor), time.monotonic()
        time.sleep(IDLE_SECONDS)
        idle = (cpu_seconds(sensor) - before) / (time.monotonic() - begin)
        total, rings = resident(sensor)
        log = next((state / "log").glob("sensor*")).read_text()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
    ready = next(json.loads(line) for line in log.splitlines() if "sensor.ready" in line)
    return {
        "idle_percent_of_a_core": idle * 100,
        "rss_mib": total / 1024,
        "rss_without_rings_mib": (total - rings) / 1024,
        "start_to_attached_seconds": ready.get("attached_seconds", float("nan")),
    }


def is_sensor(pid: int) -> bool:
    return b"limes.sensor" in Path(f"/proc/{pid}/cmdline").read_bytes()


def main() -> None:
    mount = find_mount(Path("/proc/self/mountinfo").read_text())
    cgroup = mount / f"limes-bench-{os.getpid()}"
    cgroup.mkdir()
    try:
        rounds = []
        for _ in range(ROUNDS):
            with tempfile.TemporaryDirectory() as name:
                rounds.append(one(cgroup, Path(name)))
    finally:
        cgroup.rmdir()
    for key in rounds[0]:
        values = sorted(run[key] for run in rounds)
        print(f"{key}: {statistics.median(values):.2f} ({values[0]:.2f} to {values[-1]:.2f})")


if __name__ == "__main__":
    main()
