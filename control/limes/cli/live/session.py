"""Owns one run of control plane and sensor as real processes, from certificates to their end.

Invariant: the sensor starts after the control plane serves and is watched, and stops before it.
"""

import json
import signal
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from limes.cli import connect
from limes.cli.errors import ChildError
from limes.cli.live import certificates
from limes.cli.live.children import Child
from limes.cli.live.report import Reporter, Start
from limes.cli.live.watch import Watch
from limes.cli.options import DEFAULT_ADDRESS
from limes.control.client import ControlClient

WHOLE_HOST: Final = "/"
CONTROL_READY: Final = "control.ready"
SENSOR_READY: Final = "sensor.ready"
CONNECTED: Final = "publish.connected"
REFUSED: Final = "publish.refused"
CONTROL_SECONDS: Final = 60.0
SENSOR_SECONDS: Final = 240.0  # the bcc loader compiles: a minute and more under emulation
SETTLE_SECONDS: Final = 120.0  # without any progress
REPLAY_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorOptions:
    """What the sensor is told beside state and address."""

    scope: tuple[str, ...] = ()
    plan: str | None = None
    loader: str | None = None
    syscall_hooks: bool | None = None
    gpu_nodes: tuple[Mapping[str, object], ...] = ()
    host_id: str = ""
    replay: Path | None = None
    record: Path | None = None

    def source(self) -> str:
        """Return in words where events come from."""
        if self.replay is not None:
            return f"recording {self.replay}"
        return "the whole host" if WHOLE_HOST in self.scope else f"cgroup {', '.join(self.scope)}"

    def arguments(self) -> list[str]:
        """Return them as flags of `limes sensor run`."""
        found: list[str] = []
        for path in self.scope:
            found += ["--scope", path]
        for flag, value in (
            ("--host-id", self.host_id or None),
            ("--plan", self.plan),
            ("--loader", self.loader),
            ("--replay", self.replay),
            ("--record", self.record),
        ):
            if value is not None:
                found += [flag, str(value)]
        if self.syscall_hooks is not None:
            found.append("--syscall-hooks" if self.syscall_hooks else "--no-syscall-hooks")
        return found

    def environment(self) -> dict[str, str]:
        """Return what has no flag as variables; a JSON string is a TOML string too."""
        found = {}
        if self.gpu_nodes:
            nodes = (
                ", ".join(f"{key} = {json.dumps(value)}" for key, value in node.items())
                for node in self.gpu_nodes
            )
            listed = ", ".join(f"{{ {node} }}" for node in nodes)
            found["LIMES_SENSOR_GPU_EXTRA_NODES"] = f"[{listed}]"
        return found


class Session:
    """Control plane and sensor, running; a context manager that stops both in order."""

    def __init__(
        self,
        state: Path,
        reporter: Reporter,
        *,
        listen: str | None,
        policy: Path | None,
        packs: Sequence[Path] = (),
    ) -> None:
        self._state = state
        self._reporter = reporter
        self._listen = listen
        self._policy = policy
        self._packs = packs
        self._stack = ExitStack()
        self.address = ""
        self.database = ""
        self.loader = ""

    def __enter__(self) -> Self:
        """Make what is missing and start the control plane; raises before anything stays."""
        certificates.prepare(self._state)
        try:
            self._start_control()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the sensor, then the control plane."""
        self._stack.close()

    def start_sensor(self, options: SensorOptions, *, cgroup: str = "", folder: str = "") -> None:
        """Start the sensor and wait until it is attached and heard; raises ChildError."""
        certificates.prepare_sensor(self._state, options.host_id)
        flags = ["--state", str(self._state), "--control", self.address, *options.arguments()]
        self.sensor = self._stack.enter_context(
            self._child("sensor", ["sensor", "run", *flags], options.environment())
        )
        ready = self.sensor.wait_said(SENSOR_READY, seconds=SENSOR_SECONDS)
        self.loader = ready["loader"]
        self.watch.attend(ready["epoch"])
        connection = self.sensor.wait_said(CONNECTED, REFUSED, seconds=CONTROL_SECONDS)
        if connection["event"] == REFUSED:
            raise ChildError(f"The control plane refused the sensor: {connection['reason']}")
        self._reporter.started(
            Start(
                address=self.address,
                database=self.database,
                loader=self.loader,
                plan=ready["plan"],
                source=options.source(),
                cgroup=cgroup,
                folder=folder,
            )
        )

    def settle(self) -> None:
        """Wait until all that happened so far is committed and the rules have read it."""
        asked = datetime.now(UTC)
        self.sensor.signal(signal.SIGUSR1)
        heartbeat = self.watch.wait_heartbeat(asked, SETTLE_SECONDS)
        self.watch.wait_events(heartbeat["event_seq"], SETTLE_SECONDS)
        self.watch.wait_rules(heartbeat["ingest_id"], SETTLE_SECONDS)

    def settle_after_sensor(self) -> None:
        """Wait for the sensor's own end, and then until the rules have read all it sent."""
        if self.sensor.wait(REPLAY_SECONDS) != 0:
            raise self.sensor.failure()
        status = self.client.status()
        own = next(each for each in status.sensors if each.epoch == self.watch.epoch)
        self.watch.wait_events(own.last_seq, SETTLE_SECONDS)
        self.watch.wait_rules(status.last_ingest_id, SETTLE_SECONDS)

    def wait_for_end(self) -> None:
        """Wait until a process that runs now ends by itself, which is an error."""
        running = [child for child in (self.control, self.sensor) if child.status is None]
        while True:
            for child in running:
                if child.ended(1.0):
                    raise child.failure()

    def _start_control(self) -> None:
        flags = ["--state", str(self._state), "--listen", self._listen or DEFAULT_ADDRESS]
        # Only who binds a port knows that it is free: whoever looked before could lose it again.
        any_port = {} if self._listen else {"LIMES_CONTROL_FREE_PORT": "true"}
        if self._policy is not None:
            flags += ["--policy", str(self._policy)]
        for pack in self._packs:
            flags += ["--pack", str(pack)]
        self.control = self._stack.enter_context(
            self._child("control", ["control", "serve", *flags], any_port)
        )
        ready = self.control.wait_said(CONTROL_READY, seconds=CONTROL_SECONDS)
        self.address, self.database = ready["address"], ready["database"]
        connect.address_file(self._state).write_text(self.address + "\n")
        self._stack.callback(connect.address_file(self._state).unlink, missing_ok=True)
        self.client: ControlClient = self._stack.enter_context(
            connect.client(self._state, self.address)
        )
        self.watch = Watch(self.client, self._reporter)
        self.watch.start()
        self._stack.callback(self.watch.stop)

    def _child(self, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Child:
        return Child(
            name,
            arguments,
            log=self._state / "log" / f"{name}.log",
            environment=environment,
            on_trouble=self._reporter.trouble,
        )
