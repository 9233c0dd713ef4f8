"""Instructions of the whole guest per operation, without Limes and with all of it.

Boots the VM with `-icount`: one CPU whose clock advances a nanosecond per instruction, so the
times that `load.c` prints are instruction counts. With: sensor (every hook, whole host, plan
fentry), gRPC over mutual TLS, and a sink that acknowledges, all in the same guest and counted.
"""

import json
import statistics
import subprocess
import tempfile
from pathlib import Path

from harness import config, vm, wheel

GUEST = Path(__file__).parent / "guest"
# Unrelated system calls cost nothing but the sensor's own life; so the slice in the middle counts.
SLICED = ("getppid", "read", "write", "ioctl-pipe", "ioctl-tty")
GOALS = {
    "getppid": "+0",
    "read": "+0",
    "write": "+0",
    "ioctl-pipe": "<= +160",
    "ioctl-tty": "<= +160",
    "ioctl-gpu": "-",
    "exec": "<= +15,000",
    "tcp": "<= +10,000",
}


def measure(loader: str = "libbpf", plan: str = "fentry") -> dict[str, object]:
    """The guest's JSON answer: phases without, with, after; what the sink counted; the log."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        load = folder / "load"
        subprocess.run(
            ["gcc", "-O2", "-static", "-o", str(load), str(GUEST / "load.c")], check=True
        )
        built = wheel.build(folder)
        with vm.boot(vm.prepare(config.load()), icount=True) as guest:
            for path in (load, built, GUEST / "sink.py", GUEST / "cost.py"):
                guest.push(path, f"/root/{path.name}", 0o755)
            script = (
                f"python -m pip install -q --no-index --no-deps --root-user-action=ignore "
                f"/root/{built.name}"
                f" && python /root/cost.py {loader} {plan}"
            )
            done = guest.run(["sh", "-c", script], timeout=1800)
    if done.status != 0:
        raise SystemExit(done.stderr.decode(errors="replace")[-3000:])
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def report(answer: dict[str, object]) -> str:
    """A table: median of the rounds, and their spread. `sink` is the stand-in for the control
    plane, which is another machine's work; the rest is the kernel's: hooks, loopback, scheduling.
    """
    phases = answer["phases"]
    assert isinstance(phases, dict)
    lines = ["operation      without     added   (rounds)             sensor     sink    goal"]
    for name, goal in GOALS.items():
        which = "slice" if name in SLICED else "mean"
        without = statistics.median(r[which] for r in phases["without"][name])
        added = sorted(r[which] - without for r in phases["with"][name])
        spread = " ".join(f"{value:+.0f}" for value in added)
        sensor, sink = (
            statistics.median(r[who] for r in phases["with"][name]) for who in ("sensor", "sink")
        )
        lines.append(
            f"{name:12} {without:9.0f} {statistics.median(added):+9.0f}   {spread:20} "
            f"{sensor:8.0f} {sink:8.0f}    {goal}"
        )
    return "\n".join([*lines, f"the sink acknowledged {answer['counts']}"])


if __name__ == "__main__":
    print(report(measure()))
