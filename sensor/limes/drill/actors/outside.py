"""The outside world: a Stratum server, a metadata service, internal services, a tunnel's user.

Stands alone. Usage: outside.py serve KIND=ADDRESS:PORT... | use ADDRESS PORT BYTES.
`serve` prints {"event": "ready"}, answers each input line with what it has been asked so far, and
ends when its input ends. Everything it hands out says that it is modelled.
"""

import json
import os
import socket
import socketserver
import sys
import threading
from collections import Counter
from typing import ClassVar

LIMIT = 1 << 20


class Service(socketserver.StreamRequestHandler):
    """One connection to a service; counts what was asked under its kind."""

    timeout = 600
    seen: ClassVar[Counter[str]] = Counter()
    lock: ClassVar[threading.Lock] = threading.Lock()

    def count(self, what: str) -> None:
        """Add one to what was asked."""
        with self.lock:
            self.seen[what] += 1


class Http(Service):
    """Answers one GET with a short text."""

    def handle(self) -> None:
        """Read the request line and headers, answer, close."""
        request = self.rfile.readline(4096).decode(errors="replace").split(" ")
        if len(request) < 3:
            return
        while self.rfile.readline(4096) not in (b"\r\n", b"\n", b""):
            pass
        self.count(f"GET {request[1]}")
        body = b'{"Role": "modelled by a drill", "Code": "Success"}\n'
        head = f"HTTP/1.0 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        self.wfile.write(head.encode() + body)


class Stratum(Service):
    """Speaks enough Stratum for a login and two jobs that nobody works on."""

    def handle(self) -> None:
        """Answer requests until the peer leaves."""
        while line := self.rfile.readline(4096):
            request = json.loads(line)
            self.count(request["method"])
            if request["method"] == "mining.subscribe":
                self.say(id=request["id"], result=[[["mining.notify", "00"]], "00", 4], error=None)
            elif request["method"] == "mining.authorize":
                self.say(id=request["id"], result=True, error=None)
                self.say(id=None, method="mining.set_difficulty", params=[1])
                self.say(id=None, method="mining.notify", params=["modelled", "00", "", "", []])
            else:
                self.say(id=request["id"], result=None, error=[20, "not in a drill", None])

    def say(self, **message: object) -> None:
        """Send one JSON-RPC message."""
        self.wfile.write(json.dumps(message).encode() + b"\n")


class Server(socketserver.ThreadingTCPServer):
    """A server whose threads end with the process."""

    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        """Say in one line that a peer left in the middle."""
        print(f"{client_address}: {sys.exc_info()[1]}", file=sys.stderr, flush=True)


def serve(services: list[str]) -> None:
    """Serve until the input ends."""
    kinds = {"http": Http, "stratum": Stratum}
    for service in services:
        kind, _, end = service.partition("=")
        address, port = end.rsplit(":", 1)
        server = Server((address, int(port)), kinds[kind])
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"event": "ready", "pid": os.getpid()}), flush=True)
    for _ in sys.stdin:
        with Service.lock:
            print(json.dumps(Service.seen), flush=True)


def use(address: str, port: int, count: int) -> None:
    """Send `count` bytes through a forwarded port and demand them back."""
    if count > LIMIT:
        raise SystemExit(f"{count} bytes are more than a drill may send")
    data = os.urandom(count)
    back = b""
    with socket.create_connection((address, port), timeout=120) as tunnel:
        sender = threading.Thread(target=tunnel.sendall, args=(data,))
        sender.start()
        while len(back) < count and (chunk := tunnel.recv(65536)):
            back += chunk
        sender.join()
    print(
        json.dumps({"pid": os.getpid(), "sent": count, "received": len(back), "same": back == data})
    )


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2:])
    else:
        use(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
