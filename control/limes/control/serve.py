"""Puts the control plane's process together, runs it and takes it apart in the right order.

Nothing is served before the database is open and the certificate is sound; nothing that was
acknowledged is left uncommitted by a stop.
"""

import os
import signal
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Final

import grpc
import structlog
from limes.control import ca, log
from limes.control.admin.service import AdminServicer
from limes.control.alerts.service import AlertServicer
from limes.control.config import ControlConfig
from limes.control.errors import CertificateError, ConfigError, ControlError, StoreError
from limes.control.hunt.service import HuntServicer
from limes.control.ingest.service import IngestServicer
from limes.control.policy import Policy, install_policy, load_policy, parse_policy
from limes.control.roles import CONTROL, RoleGuard
from limes.control.rules.engine import Engine
from limes.control.rules.load import load_pack, shipped_packs
from limes.control.rules.model import Rule
from limes.control.store.connection import Store, open_store
from limes.control.store.space import LOOK_SECONDS, Space
from limes.control.store.writer import Writer
from limes.control.wake import Wake
from limes.v1 import (
    admin_service_pb2_grpc,
    alert_service_pb2_grpc,
    hunt_service_pb2_grpc,
    ingest_service_pb2_grpc,
)

LOG = structlog.get_logger()
READY: Final = "control.ready"
NO_POLICY: Final = "control.no_policy"
STOPPING: Final = "control.stopping"
STOPPED: Final = "control.stopped"
MAX_PORT: Final = 65535
STOP_SECONDS: Final = 3.0  # for acknowledgements and answers that are under way


class ControlPlane:
    """One server process. `start` serves; `stop` commits what was taken, acknowledges, closes."""

    def __init__(self, config: ControlConfig) -> None:
        self._config = config
        self.wake = Wake()
        credentials = read_credentials(config)
        policy = read_policy(config)
        rules = read_rules(config)
        self.store: Store = open_store(
            config.database,
            memory_limit=config.store.memory_limit,
            threads=config.store.threads,
        )
        self.writer = Writer(
            self.store,
            group_rows=config.ingest.group_rows,
            group_seconds=config.ingest.group_milliseconds / 1000,
            queue_bytes=config.ingest.queue_mib << 20,
            on_failure=self.wake.set,
        )
        self.space = Space(config.database, config.store.free_warning_mib << 20)
        self.ingest = IngestServicer(self.writer, config.ingest.labels)
        try:
            with self.store.cursor() as cursor:
                install_policy(cursor, policy)
            self.engine = Engine(self.store, rules, on_failure=self.wake.set)
            self._server = make_server(config)
            self._register(rules)
            self.port = self._bind(credentials)
        except ControlError:
            self.store.close()
            raise

    def _register(self, rules: Sequence[Rule]) -> None:
        """Add every service to the server: a new one is named here and nowhere else."""
        admin = AdminServicer(
            self.store,
            self.writer,
            connected=self.ingest.connected,
            rules=rules,
            engine=self.engine.status,
            space=self.space,
        )
        alerts = AlertServicer(self.store, self.engine.board)
        snapshots = self._config.database.parent / "snapshots"
        self.hunts = HuntServicer(self.store, snapshots, self._config.hunt)
        for add, servicer in (
            (ingest_service_pb2_grpc.add_IngestServiceServicer_to_server, self.ingest),
            (admin_service_pb2_grpc.add_AdminServiceServicer_to_server, admin),
            (hunt_service_pb2_grpc.add_HuntServiceServicer_to_server, self.hunts),
            (alert_service_pb2_grpc.add_AlertServiceServicer_to_server, alerts),
        ):
            add(servicer, self._server)  # type: ignore[no-untyped-call]

    def _bind(self, credentials: grpc.ServerCredentials) -> int:
        """Return the port that is ours from now on: no look beforehand can promise one."""
        address = self._config.listen
        port, reason = listen(self._server, address, credentials)
        if not port and self._config.free_port:
            free = f"{address.rpartition(':')[0]}:0"
            port, reason = listen(self._server, free, credentials)
        if not port:
            raise ConfigError(
                f"Cannot listen on {address}: {reason}. "
                "Stop what uses it, or give another address with --listen."
            )
        return port

    def start(self) -> None:
        self.writer.start()
        self.engine.start()
        self._server.start()

    def stop(self) -> None:
        self.ingest.stop()
        self.writer.close()
        self.ingest.finish()
        self.engine.close()
        self.store.feed.close()
        self._server.stop(STOP_SECONDS).wait()
        self.hunts.close()
        self.store.close()


def serve(config: ControlConfig) -> int:
    """Run the control plane until SIGTERM or SIGINT; returns 0.

    Logs `control.ready` with address and database once it serves. Raises ControlError when it
    cannot run or cannot go on. Call it from the main thread: it takes the two signals.
    """
    log.configure(config.log_level)
    os.umask(0o077)  # DuckDB makes its log file anew after each checkpoint
    plane = ControlPlane(config)

    def wake(_number: int, _frame: FrameType | None) -> None:
        plane.wake.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, wake)
    plane.start()
    try:
        host, database = config.listen.rpartition(":")[0], str(config.database)
        LOG.info(READY, address=f"{host}:{plane.port}", database=database, pid=os.getpid())
        notify("READY=1")
        plane.space.look()
        while not plane.wake.wait(LOOK_SECONDS):
            plane.space.look()
        notify("STOPPING=1")
        LOG.info(STOPPING)
    finally:
        plane.stop()  # also when nobody reads the log any more: its threads would go on for ever
    if plane.writer.failure is not None:
        raise plane.writer.failure
    if plane.engine.failure is not None:
        raise StoreError(
            f"The rules stopped: {plane.engine.failure}. Every event taken is stored; the log says "
            "where it failed. Start the control plane again: the rules go on where they were."
        )
    LOG.info(STOPPED, events_committed=plane.writer.counts.events_committed)
    return 0


def read_policy(config: ControlConfig) -> Policy:
    """Return the policy; without a file one that knows no job. Raises PolicyError."""
    if config.policy is None:
        LOG.warning(NO_POLICY, effect="no cgroup is a job: rules about jobs find nothing")
        return parse_policy("", source="no policy file")
    return load_policy(config.policy)


def read_rules(config: ControlConfig) -> tuple[Rule, ...]:
    """Return the rules of every pack. Raises RuleError."""
    packs = [load_pack(folder) for folder in config.packs or shipped_packs()]
    return tuple(rule for pack in packs for rule in pack.rules)


def make_server(config: ControlConfig) -> grpc.Server:
    """Return a server that refuses calls beyond its threads at once: they would wait for ever."""
    message_bytes = config.ingest.message_mib << 20
    return grpc.server(
        ThreadPoolExecutor(config.threads, thread_name_prefix="rpc"),
        interceptors=(RoleGuard(config.threads),),
        maximum_concurrent_rpcs=config.threads,
        options=[
            ("grpc.so_reuseport", 0),  # else a second server shares the port unseen
            ("grpc.max_receive_message_length", message_bytes),
            ("grpc.max_send_message_length", message_bytes),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
        ],
    )


def read_credentials(config: ControlConfig) -> grpc.ServerCredentials:
    """Return the server's TLS credentials. Raises CertificateError when they are no good."""
    ca.check(config.certificate_path, config.key_path, config.ca_path, CONTROL)
    key, certificate, authority = (
        read(path) for path in (config.key_path, config.certificate_path, config.ca_path)
    )
    return grpc.ssl_server_credentials(
        [(key, certificate)], root_certificates=authority, require_client_auth=True
    )


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateError(f"Cannot read {path}: {error.strerror}.") from error


def listen(
    server: grpc.Server, address: str, credentials: grpc.ServerCredentials
) -> tuple[int, str]:
    """Return the port that the server has taken; 0 and the reason when it cannot have it."""
    if reason := why_not(address):  # first: gRPC would say it in lines of its own
        return 0, reason
    try:
        return int(server.add_secure_port(address, credentials)), ""
    except RuntimeError as error:  # taken since
        return 0, str(error)


def why_not(address: str) -> str:
    """Return why the system does not let us listen at `address`; empty when it does."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > MAX_PORT:
        return "it is not of the form host:port"
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
            probe.listen()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def notify(state: str) -> None:
    """Tell systemd, when it started us, how we are (sd_notify)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.connect("\0" + address[1:] if address.startswith("@") else address)
        channel.sendall(state.encode())
