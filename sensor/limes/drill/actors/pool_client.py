"""The stand-in for a miner: logs in to a Stratum server and issues GPU ioctls. It computes nothing.

Stands alone. Usage: -o stratum+tcp://ADDRESS:PORT -u USER -p PASSWORD; the node, the calls and
their number come from the JSON file beside it. No work is done on a job and no share is sent.
Prints {"pid", "executable", "ioctls", "jobs", "subscribed", "authorized"}.
"""

import errno
import fcntl
import json
import os
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any, TextIO

PACE = 0.01


def main(options: dict[str, str]) -> None:
    """Log in, issue the calls, listen for jobs, leave."""
    settings = json.loads(Path(sys.argv[0] + ".json").read_text())
    address, port = options["-o"].removeprefix("stratum+tcp://").rsplit(":", 1)
    with socket.create_connection((address, int(port)), timeout=60) as pool:
        stream = pool.makefile("rw")
        subscribed = ask(stream, 1, "mining.subscribe", ["standin/1.0"])
        authorized = ask(stream, 2, "mining.authorize", [options["-u"], options["-p"]])
        jobs = sum(json.loads(stream.readline())["method"] == "mining.notify" for _ in range(2))
        ioctls = use_gpu(settings["node"], settings["birth"], settings["steady"], settings["count"])
        stream.close()
    result = {
        "pid": os.getpid(),
        "executable": str(Path("/proc/self/exe").readlink()),
        "ioctls": ioctls,
        "jobs": jobs,
        "subscribed": subscribed is not None,
        "authorized": authorized is True,
    }
    print(json.dumps(result))


def ask(stream: TextIO, number: int, method: str, parameters: list[str]) -> Any:
    """Send one JSON-RPC request and return its result."""
    stream.write(json.dumps({"id": number, "method": method, "params": parameters}) + "\n")
    stream.flush()
    return json.loads(stream.readline())["result"]


def use_gpu(node: str, birth: list[list[int]], steady: list[list[int]], count: int) -> int:
    """Issue `count` ioctls on the node, the steady ones paced, and return how many were made."""
    descriptor = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    made = 0
    while made < count:
        if made < len(birth):
            call = birth[made]
        else:
            call = steady[made % len(steady)]
            time.sleep(PACE)
        request, size, offset, value = call
        argument = bytearray(size)
        struct.pack_into("<I", argument, offset, value)
        try:
            fcntl.ioctl(descriptor, request, argument)
        except OSError as error:
            if error.errno != errno.ENOTTY:
                raise
        made += 1
    os.close(descriptor)
    return made


if __name__ == "__main__":
    main(dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True)))
