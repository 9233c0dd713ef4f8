"""A real sensor against a real control plane, both killed: nothing lost unsaid, nothing twice.

The kernel is a recording; everything else is what runs on a host.
"""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from limes.control import ca
from limes.sensor import spool
from limes.sensor.replay import Recorder
from limes.sensor.segments import Reader

from tests.integration.ingest.conftest import Plane
from tests.unit.sensor.conftest import BOOT_ID, FakeClock, ListSource, exec_records, records

DEADLINE = 60.0
DRAINS = 120
EXECS, CONNECTIONS = 61, 43  # a drain


class SensorProcess:
    """`python -m limes.sensor` on a recording, and what it logs."""

    def __init__(self, plane: Plane, recording: Path, **settings: object) -> None:
        chosen = {
            "state": plane.state,
            "control": plane.address,
            "host_id": "gpu-07",
            "loader": "replay",
            "replay_file": recording,
            "flush_rows": 200,
            **settings,
        }
        options = [part for key in chosen for part in ("--set", f"{key}={chosen[key]}")]
        self.entries: list[dict[str, Any]] = []
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "limes.sensor", *options],
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr:
            for line in self.process.stderr:
                if line.startswith("{"):
                    self.entries.append(json.loads(line))
                else:
                    self.said.append(line)

    def wait_for(self, event: str) -> dict[str, Any]:
        def found() -> bool:
            assert self.process.poll() is None or self._reader.is_alive(), self.said
            return any(entry["event"] == event for entry in self.entries)

        wait_until(found)
        return next(entry for entry in self.entries if entry["event"] == event)

    def finish(self) -> int:
        status = self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        return status

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a kernel might have said: many small drains."""
    path = tmp_path_factory.mktemp("recording") / "x.limesrec"
    numbers = np.random.default_rng(1)
    drains = [
        {
            "exec": exec_records(
                EXECS,
                exec_id=1 + number * EXECS + np.arange(EXECS),
                args=numbers.integers(97, 122, (EXECS, 512)),
                args_bytes=512,
                args_copied=512,
            ),
            "connection": records(
                "connection",
                CONNECTIONS,
                socket_id=1 + np.arange(CONNECTIONS),
                bytes_sent=numbers.integers(0, 1 << 60, CONNECTIONS),
                bytes_received=numbers.integers(0, 1 << 60, CONNECTIONS),
                remote=numbers.integers(0, 255, (CONNECTIONS, 16)),
            ),
        }
        for number in range(DRAINS)
    ]
    recorder = Recorder(ListSource(drains), path, boot_id=BOOT_ID, clock=FakeClock())
    for _ in range(DRAINS):
        recorder.drain()
    recorder.close()
    return path


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    found = Plane(tmp_path / "state")
    ca.issue(found.state, "gpu-07", "sensor")
    yield found
    found.close()


@pytest.fixture
def launch(plane: Plane, recording: Path) -> Iterator[Callable[..., SensorProcess]]:
    made: list[SensorProcess] = []

    def start(**settings: object) -> SensorProcess:
        made.append(SensorProcess(plane, recording, **settings))
        return made[-1]

    yield start
    for sensor in made:
        if sensor.process.poll() is None:
            sensor.kill()


Launch = Callable[..., SensorProcess]
SPOOL = "sensor/spool"


def segments(plane: Plane) -> list[Path]:
    return sorted((plane.state / SPOOL).glob("*/*.segment"))


def has_more(plane: Plane, before: set[Path]) -> bool:
    """Tells whether a new epoch has a whole batch on disk, so that it is one to speak of."""
    for path in segments(plane):
        if path.parent not in before:
            with suppress(ValueError):  # the header is just being written
                reader = Reader(path)
                found = reader.next()
                reader.close()
                return found is not None
    return False


def tiles(plane: Plane) -> dict[int, list[tuple[int, int, str]]]:
    """Ranges of the batch log by epoch; fails unless they tile without hole or overlap."""
    epochs: dict[int, list[tuple[int, int, str]]] = {}
    for epoch, first, last, outcome in plane.rows(
        "SELECT sensor_epoch, first_seq, last_seq, batch_outcome FROM batch_log ORDER BY ALL"
    ):
        ranges = epochs.setdefault(epoch, [])
        assert first == (ranges[-1][1] + 1 if ranges else 1)
        ranges.append((first, last, outcome))
    return epochs


def counts(plane: Plane) -> dict[int, tuple[int, int, int]]:
    """By epoch: execs, connections, and distinct sequence numbers of both."""
    rows = plane.rows(
        """
        SELECT sensor_epoch, count(*) FILTER (what = 'e'), count(*) FILTER (what = 'c'),
            count(DISTINCT event_seq)
        FROM (
            SELECT sensor_epoch, event_seq, 'e' AS what FROM process_execs
            UNION ALL SELECT sensor_epoch, event_seq, 'c' FROM connections
        ) GROUP BY ALL ORDER BY ALL
        """
    )
    return {epoch: tuple(rest) for epoch, *rest in rows}


ALL = (DRAINS * EXECS, DRAINS * CONNECTIONS, DRAINS * (EXECS + CONNECTIONS))


def test_clean_run_stores_every_event_once(plane: Plane, launch: Launch) -> None:
    """Exit 0, everything acknowledged, nothing left in the spool."""
    plane.start()
    sensor = launch()
    assert (sensor.finish(), sensor.said) == (0, [])
    assert segments(plane) == []
    assert plane.terminate() == 0
    (epoch,) = tiles(plane)
    assert counts(plane) == {epoch: ALL}
    assert plane.rows("SELECT count(*) FROM losses") == [(0,)]


def test_control_plane_killed_while_events_flow(plane: Plane, launch: Launch) -> None:
    """Three kills; the sensor reconnects each time and the store ends up with each event once."""
    plane.start(**{"ingest.group_rows": 500})
    sensor = launch()
    for _ in range(3):
        plane.wait_for("ingest.stream_opened")
        plane.kill()
        plane.start(**{"ingest.group_rows": 500})
    sensor.finish()
    if segments(plane):  # the sensor stopped waiting: the next start sends the rest
        assert launch().finish() == 0
    assert plane.terminate() == 0
    assert counts(plane)[min(tiles(plane))] == ALL


def test_sensor_killed_with_everything_in_the_spool(plane: Plane, launch: Launch) -> None:
    """The next start sends what the dead one wrote, under its epoch, and says that it died."""
    plane.start()
    address = plane.address
    plane.kill()
    sensor = launch()
    sensor.wait_for("sensor.stopping")  # the recording is through, nobody has acknowledged
    sensor.kill()
    written = Reader(segments(plane)[0]).origin.epoch
    plane.start()
    assert plane.address == address
    assert launch().finish() == 0
    assert plane.terminate() == 0
    dead, alive = sorted(tiles(plane))
    assert dead == written
    assert counts(plane) == {dead: ALL, alive: ALL}
    assert plane.rows("SELECT sensor_epoch, loss_stage, loss_cause, loss_count FROM losses") == [
        (alive, "sensor", spool.SENSOR_KILLED, 0)
    ]


def test_sensor_killed_again_and_again_while_it_writes(plane: Plane, launch: Launch) -> None:
    """Whatever moment: what reached the spool is in the store once, the rest was never numbered."""
    plane.start()
    plane.kill()
    for _ in range(4):
        before = {path.parent for path in segments(plane)}
        sensor = launch()
        wait_until(partial(has_more, plane, before))
        sensor.kill()
    plane.start()
    assert launch().finish() == 0
    assert plane.terminate() == 0
    epochs = tiles(plane)
    assert len(epochs) == 5
    assert all(outcome == "stored" for ranges in epochs.values() for _, _, outcome in ranges)
    for execs, connections, distinct in counts(plane).values():
        assert execs + connections == distinct
    assert counts(plane)[max(epochs)] == ALL


def test_damaged_segment_becomes_a_loss_row_and_the_rest_arrives(
    plane: Plane, launch: Launch
) -> None:
    """The stream is not wedged by a bad disk."""
    plane.start()
    plane.kill()
    sensor = launch()
    sensor.wait_for("sensor.stopping")
    sensor.kill()
    path = segments(plane)[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    plane.start()
    assert launch().finish() == 0
    assert plane.terminate() == 0
    dead, alive = sorted(tiles(plane))
    ((first, last, count),) = plane.rows(
        "SELECT loss_first_seq, loss_last_seq, loss_count FROM losses "
        f"WHERE loss_cause = '{spool.SPOOL_CORRUPT}'"
    )
    assert count == last - first + 1
    execs, connections, distinct = counts(plane)[dead]
    assert execs + connections == distinct == ALL[2] - count
    assert counts(plane)[alive] == ALL


def test_spool_overflow_is_declared_and_counted_exactly(plane: Plane, launch: Launch) -> None:
    """While nobody listens the oldest go; the store knows how many."""
    plane.start()
    plane.kill()
    sensor = launch(spool_mib=1, flush_rows=50)
    sensor.wait_for("sensor.stopping")
    sensor.process.send_signal(signal.SIGTERM)
    plane.start()
    assert sensor.finish() == 0
    if segments(plane):
        assert launch().finish() == 0
    assert plane.terminate() == 0
    epoch = min(tiles(plane))
    lost = plane.rows(
        f"SELECT sum(loss_count) FROM losses WHERE loss_cause = '{spool.SPOOL_FULL}'"
    )[0][0]
    everything = plane.rows(f"SELECT max(last_seq) FROM batch_log WHERE sensor_epoch = {epoch}")[0][
        0
    ]
    stored = plane.rows(
        f"SELECT sum(last_seq - first_seq + 1) FROM batch_log "
        f"WHERE sensor_epoch = {epoch} AND batch_outcome = 'stored'"
    )[0][0]
    assert lost > 0
    assert stored + lost == everything


def test_fresh_database_does_not_wedge_the_stream(plane: Plane, launch: Launch) -> None:
    """A control plane that lost its database is told what it can no longer have."""
    plane.start()
    plane.kill()
    sensor = launch()
    sensor.wait_for("sensor.stopping")
    sensor.kill()
    plane.start()
    sensor = launch()
    sensor.wait_for("publish.earlier_epoch_sent")
    sensor.finish()
    plane.kill()
    for path in (plane.state / "control").iterdir():
        if path.is_file():
            path.unlink()
    plane.start()
    assert launch().finish() == 0
    assert plane.terminate() == 0
    assert counts(plane)[max(tiles(plane))] == ALL


def test_wrong_certificate_is_said_in_one_line(plane: Plane, launch: Launch) -> None:
    """An analyst's certificate does not make a sensor; the spool keeps what was seen."""
    ca.issue(plane.state, "eve", "analyst")
    plane.start()
    sensor = launch(host_id="eve")
    refusal = sensor.wait_for("publish.refused")
    assert "has role 'analyst', this needs 'sensor'" in refusal["reason"]
    sensor.kill()
    assert segments(plane)


def test_host_id_of_another_certificate_is_refused(plane: Plane, launch: Launch) -> None:
    """The certificate decides who somebody is."""
    plane.start()
    made = ca.files(plane.state, "gpu-07")
    sensor = launch(host_id="gpu-08", certificate=made.certificate, key=made.key)
    refusal = sensor.wait_for("publish.refused")
    assert "set host_id to the certificate's name" in refusal["reason"]
    sensor.kill()


def test_sensor_that_cannot_run_says_why_in_one_line(plane: Plane, launch: Launch) -> None:
    """Exit 3, one line, no traceback."""
    sensor = launch(replay_file="/nowhere")
    assert sensor.finish() == 3
    assert len(sensor.said) == 1
    assert sensor.said[0].startswith("limes sensor: Tried to open the recording /nowhere")
