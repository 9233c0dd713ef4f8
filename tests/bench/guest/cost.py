"""Runs in the guest under -icount: instructions of the whole guest per operation, with and without.

Prints one JSON object: {"phases": {phase: {operation: [what load prints, one per round]}}, ...}.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from limes.control import ca

ROOT = Path("/root/bench")
NODE = ROOT / "gpu0"
# Sized so that a round spans many flushes of the sensor.
OPERATIONS = {
    "getppid": 300_000,
    "read": 200_000,
    "write": 200_000,
    "ioctl-pipe": 200_000,
    "ioctl-tty": 200_000,
    "ioctl-gpu": 400_000,
    "exec": 6_000,
    "tcp": 15_000,
}
ROUNDS = 3


def on_cpu(pid: int) -> int:
    """Nanoseconds that all threads of a process have run: instructions, under -icount."""
    found = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            found += int((task / "schedstat").read_text().split()[0])
        except FileNotFoundError:  # a thread that has just ended
            continue
    return found


def measure(rounds: int, **processes: int) -> dict[str, list[dict[str, float]]]:
    """What `load` prints for each operation, and what the named processes ran meanwhile."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in OPERATIONS}
    for _ in range(rounds):
        for name, count in OPERATIONS.items():
            before = {who: on_cpu(pid) for who, pid in processes.items()}
            done = subprocess.run(
                ["/root/load", name, str(count), str(NODE)],
                check=True,
                capture_output=True,
                text=True,
            )
            row = json.loads(done.stdout)
            row |= {who: (on_cpu(pid) - before[who]) / count for who, pid in processes.items()}
            found[name].append(row)
    return found


def run_child(code: str) -> int:
    """Starts this file's own python on `code`; the pid."""
    return subprocess.Popen([sys.executable, "-c", code], stderr=(ROOT / "log").open("a")).pid


def start_sensor(loader: str, plan: str) -> int:
    config = {
        "state": str(ROOT),
        "host_id": "guest",
        "control": "127.0.0.1:7443",
        "loader": loader,
        "plan": plan,
        "gpu_extra_nodes": [{"path": str(NODE), "name": "gpu0", "simulated": True}],
    }
    code = (
        "from limes.sensor.config import load_config\n"
        "from limes.sensor.run import run_sensor\n"
        f"raise SystemExit(run_sensor(load_config(None, {config!r})))\n"
    )
    (ROOT / "log").write_text("")
    pid = run_child(code)
    deadline = time.monotonic() + 600
    while "sensor.ready" not in (ROOT / "log").read_text():
        if time.monotonic() > deadline or os.waitpid(pid, os.WNOHANG) != (0, 0):
            sys.exit((ROOT / "log").read_text())
        time.sleep(0.5)
    return pid


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)
    os.waitpid(pid, 0)


def main(loader: str, plan: str) -> None:
    ROOT.mkdir(exist_ok=True)
    # The clock takes ioctls that it does not know, and its major is where GPUs have theirs.
    os.mknod(NODE, 0o600 | 0o020000, Path("/dev/rtc0").stat().st_rdev)
    ca.init(ROOT)
    ca.issue(ROOT, "control", "control")
    ca.issue(ROOT, "guest", "sensor")
    results = {"without": measure(ROUNDS)}
    sink = subprocess.Popen(
        [sys.executable, "/root/sink.py", str(ROOT / "certs"), "7443", str(ROOT / "counts")]
    )
    sensor = start_sensor(loader, plan)
    measure(1)  # a first round fills caches and tables
    results["with"] = measure(ROUNDS, sensor=sensor, sink=sink.pid)
    stop(sensor)
    results["after"] = measure(1)
    deadline = time.monotonic() + 60
    while not (ROOT / "counts").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    sink.terminate()
    counts = (ROOT / "counts").read_text() if (ROOT / "counts").exists() else "no stream came"
    print(json.dumps({"phases": results, "counts": counts, "log": (ROOT / "log").read_text()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
