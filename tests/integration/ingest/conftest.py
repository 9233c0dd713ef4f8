"""A control plane as a process of its own, and synthetic sensors that talk to it over mTLS."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from limes.control import ca
from limes.control.client import ControlClient
from limes.control.store.connection import Store, open_store
from limes.v1 import ingest_service_pb2 as pb
from limes.v1 import ingest_service_pb2_grpc as rpc
from limes.v1 import schema

DEADLINE = 60.0
# What `limes control serve` does: the error's line to stderr, exit status 3.
SERVE = """
import json, resource, sys
from limes.control.config import load_config
from limes.control.errors import ControlError
from limes.control.serve import serve
settings = json.loads(sys.argv[1])
if limit := settings.pop("file_size_limit", 0):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    sys.exit(serve(load_config(None, settings)))
except ControlError as error:
    print(error, file=sys.stderr)
    sys.exit(3)
"""


class Plane:
    """One state directory and the control plane that serves it, now and after restarts."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.port = 0
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._process: subprocess.Popen[str] | None = None
        ca.init(state)
        ca.issue(state, "control", "control")
        ca.issue(state, "admin", "analyst")

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def launch(self, **settings: object) -> None:
        """Start the process without waiting for it."""
        chosen = {"state": str(self.state), "listen": self.address} | settings
        self.lines = []
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", SERVE, json.dumps(chosen)],
            stderr=subprocess.PIPE,
            text=True,
            env={k: v for k, v in os.environ.items() if not k.startswith("LIMES_")},
        )
        threading.Thread(target=self._read, args=(self._process,), daemon=True).start()

    def start(self, **settings: object) -> "Plane":
        """Start the process and wait until it serves."""
        self.launch(**settings)
        ready = self.wait_for("control.ready")
        self.port = int(ready["address"].rpartition(":")[2])
        return self

    def wait_for(self, event: str) -> dict[str, Any]:
        """Return the first log entry of that name, waiting for it."""

        def found() -> dict[str, Any] | None:
            entries = (json.loads(line) for line in self.lines if line.startswith("{"))
            return next((entry for entry in entries if entry["event"] == event), None)

        with self._changed:
            self._changed.wait_for(lambda: found() or self._over(), DEADLINE)
            entry = found()
        assert entry is not None, self.lines
        return entry

    def terminate(self) -> int:
        """Ask it to stop; return its exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(DEADLINE)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(DEADLINE)

    def exit_status(self) -> int:
        """Return its exit status once it ended by itself, and all it said."""
        assert self._process is not None
        status = self._process.wait(DEADLINE)
        with self._changed:
            self._changed.wait_for(self._over, DEADLINE)
        return status

    def said(self) -> list[str]:
        """Return the lines that are no log entries: what a person is told."""
        return [line for line in self.lines if not line.startswith("{")]

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def admin(self) -> ControlClient:
        made = ca.files(self.state, "admin")
        authority = ca.ca_files(self.state).certificate
        return ControlClient(self.address, authority, made.certificate, made.key)

    @contextmanager
    def store(self) -> Iterator[Store]:
        """Open the database of a control plane that has stopped."""
        found = open_store(self.state / "control/limes.duckdb")
        try:
            yield found
        finally:
            found.close()

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the answer of the database of a control plane that has stopped."""
        with self.store() as store, store.cursor() as cursor:
            return cursor.execute(sql).fetchall()

    def _over(self) -> bool:
        return "" in self.lines

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        lines = self.lines
        with process.stderr:
            for line in process.stderr:
                self._keep(lines, line.rstrip("\n"))
        self._keep(lines, "")

    def _keep(self, lines: list[str], line: str) -> None:
        with self._changed:
            lines.append(line)
            self._changed.notify_all()


class Stream:
    """One stream of a sensor: what is sent in order, what is answered in order."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self._requests: queue.Queue[pb.StreamRequest | None] = queue.Queue()
        stub = rpc.IngestServiceStub(channel)  # type: ignore[no-untyped-call]
        self._call = stub.Stream(iter(self._requests.get, None), timeout=DEADLINE)

    def send(self, *requests: pb.StreamRequest) -> None:
        for request in requests:
            self._requests.put(request)

    def receive(self) -> pb.StreamResponse:
        """Return the next response. Raises grpc.RpcError when the stream was ended."""
        response: pb.StreamResponse = next(self._call)
        return response

    def receive_ack(self, last_seq: int) -> None:
        """Wait until everything up to `last_seq` is acknowledged."""
        while True:
            response = self.receive()
            assert response.HasField("ack"), response
            if response.ack.last_seq == last_seq:
                return
            assert response.ack.last_seq < last_seq, response

    def ended(self) -> grpc.RpcError:
        """Return how the stream ended, reading what comes before."""
        with pytest.raises(grpc.RpcError) as found:
            for _ in self._call:
                pass
        return found.value

    def until_ended(self) -> tuple[int, grpc.RpcError]:
        """Return the last acknowledgement (0: none), and how the stream ended."""
        last_seq = 0
        try:
            for response in self._call:
                last_seq = max(last_seq, response.ack.last_seq)
        except grpc.RpcError as error:
            return last_seq, error
        raise AssertionError("the stream ended well")

    def half_close(self) -> None:
        self._requests.put(None)

    def rest(self) -> list[pb.StreamResponse]:
        """Return all further responses of a stream that ends well."""
        return list(self._call)

    def close(self) -> None:
        self._requests.put(None)
        self._call.cancel()
        self._channel.close()


class Sensor:
    """A host with a certificate; `stream` opens a stream and says Hello."""

    def __init__(self, plane: Plane, name: str, epoch: int) -> None:
        self.plane = plane
        self.name = name
        self.epoch = epoch
        self.made = ca.issue(plane.state, name, "sensor")
        self._streams: list[Stream] = []

    def channel(self) -> grpc.Channel:
        credentials = grpc.ssl_channel_credentials(
            ca.ca_files(self.plane.state).certificate.read_bytes(),
            self.made.key.read_bytes(),
            self.made.certificate.read_bytes(),
        )
        options = [("grpc.use_local_subchannel_pool", 1)]
        return grpc.secure_channel(self.plane.address, credentials, options)

    def raw_stream(self) -> Stream:
        """Open a stream without a Hello."""
        stream = Stream(self.channel())
        self._streams.append(stream)
        return stream

    def hello(self, **values: Any) -> pb.StreamRequest:
        hello: dict[str, Any] = {
            "host_id": self.name,
            "boot_id": "boot-1",
            "epoch": self.epoch,
            "abi_version": schema.ABI_VERSION,
            "sensor_version": "0.1.0",
            "kernel_release": "6.1.0",
        }
        return pb.StreamRequest(hello=pb.Hello(**(hello | values)))

    def stream(self) -> tuple[Stream, pb.Settings]:
        """Open a stream; return it and the Settings that answer the Hello."""
        stream = self.raw_stream()
        stream.send(self.hello())
        response = stream.receive()
        assert response.HasField("settings"), response
        return stream, response.settings

    def close(self) -> None:
        for stream in self._streams:
            stream.close()


MakeSensor = Callable[..., Sensor]


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    """A control plane that is not started yet."""
    found = Plane(tmp_path)
    yield found
    found.close()


@pytest.fixture
def make_sensor(plane: Plane) -> Iterator[MakeSensor]:
    """Make sensors with certificates of the plane's authority."""
    made: list[Sensor] = []

    def make(name: str = "node-1", epoch: int = 17) -> Sensor:
        made.append(Sensor(plane, name, epoch))
        return made[-1]

    yield make
    for sensor in made:
        sensor.close()
