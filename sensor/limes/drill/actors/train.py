"""The training stand-in: opens the GPU node and issues ioctls at a modest rate. It trains nothing.

Stands alone. Usage: train.py run SETTINGS | load SETTINGS FORKS | query SETTINGS.
`run` works with two workers that meet on loopback, until its input ends or says stop; `load` forks
like a data loader; `query` is what a trainer's child does. Each prints JSON lines.
"""

import errno
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

WORKERS = 2
PACE = 0.1
WAVE = 8
# Nobody trains longer than a drill can last, even when its owner was killed.
LONGEST = 3600.0


class Gpu:
    """The node, opened, and the count of ioctls made on it."""

    def __init__(self, settings: dict[str, Any]) -> None:
        """Open the node and issue what a context birth issues."""
        self._steady = settings["steady"]
        self._descriptor = os.open(settings["node"], os.O_RDWR | os.O_CLOEXEC)
        self.made = 0
        for call in settings["birth"]:
            self._issue(*call)

    def step(self) -> None:
        """Issue one steady call."""
        self._issue(*self._steady[self.made % len(self._steady)])

    def _issue(self, request: int, size: int, offset: int, value: int) -> None:
        argument = bytearray(size)
        struct.pack_into("<I", argument, offset, value)
        try:
            fcntl.ioctl(self._descriptor, request, argument)
        except OSError as error:
            if error.errno != errno.ENOTTY:
                raise
        self.made += 1


def say(**message: object) -> None:
    """Print one JSON line."""
    print(json.dumps(message), flush=True)


def run(settings: dict[str, Any]) -> None:
    """Train until told to stop, then say how many ioctls each process made."""
    gpu = Gpu(settings)
    with socket.create_server((settings["address"], settings["port"])) as rendezvous:
        workers = [fork_worker(settings, rendezvous) for _ in range(WORKERS)]
        ranks = [rendezvous.accept()[0] for _ in workers]
    with subprocess.Popen(
        [settings["python"], "-S", __file__, "query", sys.argv[2]], stdout=subprocess.PIPE
    ) as child:
        output, _ = child.communicate()
    query = json.loads(output)
    say(event="ready", pid=os.getpid(), workers=workers, query=query)
    sys.stdin.readline()
    made = {os.getpid(): gpu.made, query["pid"]: query["ioctls"]}
    for rank in ranks:
        rank.sendall(b"stop\n")
        answer = json.loads(rank.makefile().readline())
        made[answer["pid"]] = answer["ioctls"]
        rank.close()
    for _ in workers:
        os.wait()
    say(event="done", ioctls=made)


def fork_worker(settings: dict[str, Any], rendezvous: socket.socket) -> int:
    """Fork a worker and return its pid; it meets the others on loopback and works until told."""
    pid = os.fork()
    if pid:
        return pid
    rendezvous.close()
    gpu = Gpu(settings)
    end = time.monotonic() + LONGEST
    with socket.create_connection((settings["address"], settings["port"])) as rank:
        rank.settimeout(PACE)
        while time.monotonic() < end:
            try:
                rank.recv(64)
            except TimeoutError:
                gpu.step()
                continue
            break
        try:
            rank.sendall(json.dumps({"pid": os.getpid(), "ioctls": gpu.made}).encode() + b"\n")
        except OSError:
            os._exit(1)
    os._exit(0)


def load(settings: dict[str, Any], forks: int) -> None:
    """Fork `forks` children in waves, each of which reads a little and ends."""
    gpu = Gpu(settings)
    done = 0
    while done < forks:
        wave = min(WAVE, forks - done)
        for _ in range(wave):
            if os.fork() == 0:
                sum(Path(__file__).read_bytes())
                os._exit(0)
        for _ in range(wave):
            os.wait()
        done += wave
        gpu.step()
    say(pid=os.getpid(), forks=done, ioctls=gpu.made)


def query(settings: dict[str, Any]) -> None:
    """Open the node once, as a trainer's helper does."""
    say(
        pid=os.getpid(),
        executable=str(Path("/proc/self/exe").readlink()),
        ioctls=Gpu(settings).made,
    )


if __name__ == "__main__":
    loaded = json.loads(Path(sys.argv[2]).read_text())
    match sys.argv[1]:
        case "run":
            run(loaded)
        case "load":
            load(loaded, int(sys.argv[3]))
        case "query":
            query(loaded)
