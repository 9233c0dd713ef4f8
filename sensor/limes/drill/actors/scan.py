"""A tool of the agent: connects to every ADDRESS:PORT given and says what each did.

Stands alone. Each target gets one connection; what has not answered after a quiet time is given up.
Prints {"pid", "results": {target: "open" | "refused" | "silent" | errno name}}.
"""

import errno
import json
import os
import selectors
import socket
import sys

QUIET = 2.0


def main(targets: list[str]) -> None:
    """Try all targets at once and print the results."""
    results = {}
    probes = {}
    with selectors.DefaultSelector() as selector:
        for target in targets:
            address, port = target.rsplit(":", 1)
            probe = socket.socket()
            probe.setblocking(False)
            probe.connect_ex((address, int(port)))
            selector.register(probe, selectors.EVENT_WRITE, target)
            probes[target] = probe
        while selector.get_map():
            ready = selector.select(QUIET)
            for key in [key for key, _ in ready] or list(selector.get_map().values()):
                selector.unregister(key.fd)
                probe = probes[key.data]
                results[key.data] = outcome(probe) if ready else "silent"
                probe.close()
    print(json.dumps({"pid": os.getpid(), "results": results}))


def outcome(probe: socket.socket) -> str:
    """Return what became of a finished connection attempt."""
    code = probe.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    names = {0: "open", errno.ECONNREFUSED: "refused"}
    return names.get(code) or errno.errorcode[code]


if __name__ == "__main__":
    main(sys.argv[1:])
