"""Runs the sensor: source, pipeline, spool and publisher, from start to a clean stop.

Invariant: after `run_sensor` returns nothing of it is left in the kernel, and what the control
plane has not acknowledged is in the spool.
"""

import os
import platform
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

import structlog
from limes.sensor import cgroups, gpu, memory, procfs
from limes.sensor.clock import Clock, RecordedClock, SystemClock
from limes.sensor.config import SensorConfig
from limes.sensor.errors import ConfigError, TransportError
from limes.sensor.identity import Identity
from limes.sensor.pipeline import Pace, Pipeline, Surroundings
from limes.sensor.publish import Endpoint, Publisher
from limes.sensor.replay import Recorder, ReplaySource
from limes.sensor.segments import Origin
from limes.sensor.source import RecordSource
from limes.sensor.spool import Spool

log = structlog.get_logger(__name__)

READY: Final = "sensor.ready"
STOPPING: Final = "sensor.stopping"
STOPPED: Final = "sensor.stopped"

_MS: Final = 1_000_000
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_ACK_SECONDS: Final = 10.0


def configure_logging(level: str) -> None:
    """Sets structlog up: for a person on a terminal, JSON lines elsewhere, to stderr."""
    if structlog.is_configured():
        return
    terminal = sys.stderr.isatty()
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )


def run_sensor(config: SensorConfig) -> int:
    """Runs until SIGTERM, SIGINT or the end of a recording; returns 0.

    Raises SensorError when it cannot run.
    """
    configure_logging(config.log_level)
    memory.keep_freed()
    with ExitStack() as stack:
        source, clock, boot_id = _open_source(config)
        stack.callback(source.close)
        identity = Identity(host_id=config.host, boot_id=boot_id, epoch=time.time_ns())
        spool = Spool(
            config.spool_path,
            Origin(identity.epoch, boot_id),
            limit_bytes=config.spool_mib << 20,
        )
        stack.callback(spool.close)
        publisher = Publisher(spool, _endpoint(config), host_id=config.host)
        pipeline = Pipeline(
            source,
            spool,
            identity=identity,
            clock=clock,
            surroundings=_surroundings(config, source),
            pace=_pace(config),
            notify=publisher.notify,
            redacting=config.redact,
        )
        with _signals(pipeline):
            publisher.start(on_failure=pipeline.stop)
            stack.callback(publisher.stop)
            pipeline.start(time.monotonic_ns())
            _log_ready(config, source, identity)
            tell_systemd("READY=1")
            _run(pipeline, source)
            tell_systemd("STOPPING=1")
            log.info(STOPPING, host_id=config.host, connected=publisher.connected)
            if publisher.failure is not None:
                raise TransportError(
                    f"Sending to {config.control} ended by a fault: {publisher.failure!r}. The "
                    "spool has what was not acknowledged; start the sensor again."
                ) from publisher.failure
            publisher.wait_acknowledged(_ACK_SECONDS)
    log.info(STOPPED)
    return 0


def tell_systemd(state: str) -> None:
    """Says how the sensor is, when systemd started it (sd_notify)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.connect("\0" + address[1:] if address.startswith("@") else address)
            channel.sendall(state.encode())


def _run(pipeline: Pipeline, source: RecordSource) -> None:
    if isinstance(source, ReplaySource):
        while not (source.finished or pipeline.stopping):
            pipeline.step(time.monotonic_ns())
        pipeline.finish()
    else:
        pipeline.run()


def _log_ready(config: SensorConfig, source: RecordSource, identity: Identity) -> None:
    log.info(
        READY,
        host_id=config.host,
        epoch=identity.epoch,
        loader=source.loader,
        plan=source.plan,
        scope=list(config.scope),
        hooks_attached=sum(hook.state == "attached" for hook in source.hooks),
        hooks_refused=sum(hook.state == "refused" for hook in source.hooks),
        kernel_release=platform.release(),
        attached_seconds=round(_age_seconds(), 2),
    )


def _age_seconds() -> float:
    """How long this process has lived, by the kernel's word."""
    started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")


@contextmanager
def _signals(pipeline: Pipeline) -> Iterator[None]:
    """SIGTERM and SIGINT end the pipeline's loop, SIGUSR1 asks it for a heartbeat now.

    The handlers before are put back.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        pipeline.stop()  # no more than that: a log line could be written into another's middle

    def ask(number: int, frame: FrameType | None) -> None:
        del number, frame
        pipeline.ask()

    before: dict[signal.Signals, Any] = {}
    for number in (signal.SIGTERM, signal.SIGINT):
        before[number] = signal.signal(number, stop)
    before[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, ask)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _open_source(config: SensorConfig) -> tuple[RecordSource, Clock, str]:
    """The source, the clock its records go by, and the boot id they belong to."""
    if config.loader == "replay":
        if config.replay_file is None:
            raise ConfigError('loader is "replay" without replay_file: name a recording.')
        replay = ReplaySource(config.replay_file)
        clock: Clock = RecordedClock(boot_ns=replay.boot_ns, offset_ns=replay.offset_ns)
        return replay, clock, replay.boot_id
    # Late: a replay needs neither root nor the BPF side.
    from limes.sensor.bpf import open_source  # noqa: PLC0415

    boot_id = _BOOT_ID.read_text().strip()
    source: RecordSource = open_source(config)
    clock = SystemClock()
    if config.record_file is not None:
        source = Recorder(
            source, config.record_file, boot_id=boot_id, clock=clock, devices=_devices(config)
        )
    return source, clock, boot_id


def _surroundings(config: SensorConfig, source: RecordSource) -> Surroundings:
    if isinstance(source, ReplaySource):
        return Surroundings(tree=source, processes=source, devices=gpu.Devices(source.devices))
    devices = gpu.Devices(_devices(config))
    mountinfo = Path("/proc/self/mountinfo").read_text()
    tree = cgroups.CgroupTree(cgroups.find_mount(mountinfo), config.scope)
    processes = procfs.Processes(tree=tree)
    if isinstance(source, Recorder):
        return Surroundings(
            tree=source.walked(tree), processes=source.scanned(processes), devices=devices
        )
    return Surroundings(tree=tree, processes=processes, devices=devices)


def _devices(config: SensorConfig) -> list[gpu.Device]:
    return [
        (gpu.device_number(*node.device()), node.name, node.simulated)
        for node in config.gpu_extra_nodes
    ]


def _pace(config: SensorConfig) -> Pace:
    return Pace(
        drain_min_ns=config.drain_min_ms * _MS,
        drain_max_ns=config.drain_max_ms * _MS,
        flush_ns=config.flush_ms * _MS,
        flush_rows=config.flush_rows,
    )


def _endpoint(config: SensorConfig) -> Endpoint:
    return Endpoint(
        address=config.control,
        ca=config.ca_path,
        certificate=config.certificate_path,
        key=config.key_path,
    )
