"""The admin service: status of sensors, store and rules; a tail of events as they are committed.

It reads only: nothing an operator asks here changes what is stored.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from importlib import metadata
from typing import Final

import grpc
import pyarrow as pa
from google.protobuf.timestamp_pb2 import Timestamp
from limes.control.rules.engine import EngineStatus
from limes.control.rules.model import Rule
from limes.control.store import query
from limes.control.store.connection import Store
from limes.control.store.entries import Source
from limes.control.store.feed import Delivery
from limes.control.store.space import Space
from limes.control.store.writer import Writer
from limes.v1 import admin_service_pb2 as pb
from limes.v1 import admin_service_pb2_grpc as rpc
from limes.v1 import schema

TAIL_ROWS: Final = 20_000  # of one kind and message; more would only scroll by
TAIL_SECONDS: Final = 0.5  # how soon a tail notices that its reader has left
MESSAGE_ROWS: Final = 2_000


class AdminServicer(rpc.AdminServiceServicer):
    """Serves `AdminService`. `connected` and `engine` are asked at each call."""

    def __init__(
        self,
        store: Store,
        writer: Writer,
        *,
        connected: Callable[[], frozenset[Source]],
        rules: Sequence[Rule],
        engine: Callable[[], EngineStatus],
        space: Space,
    ) -> None:
        self._store = store
        self._writer = writer
        self._connected = connected
        self._rules = rules
        self._engine = engine
        self._space = space
        self._started = datetime.now(UTC).replace(tzinfo=None)

    def GetStatus(  # noqa: N802 - the name is the RPC's
        self,
        request: pb.GetStatusRequest,  # noqa: ARG002 - the RPC's signature
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> pb.GetStatusResponse:
        """Return the state of everything, counts since the server started."""
        counts = self._writer.counts
        engine = self._engine()
        room = self._space.room()
        return pb.GetStatusResponse(
            version=metadata.version("limes"),
            database=str(self._store.path or "in memory"),
            schema_version=self._store.schema_version,
            sensors=self._sensors(),
            rules=self._rule_states(dict(engine.failing)),
            events_committed=counts.events_committed,
            batches_duplicate=counts.batches_duplicate,
            batches_malformed=counts.batches_malformed,
            rewinds=counts.rewinds,
            last_ingest_id=self._store.last_ingest_id(),
            rules_ingest_id=engine.position,
            rules_held=engine.held_rows,
            disk_free_bytes=room.free,
            disk_low=room.low,
        )

    def _sensors(self) -> list[pb.SensorStatus]:
        connected = self._connected()
        with self._store.cursor() as cursor:
            found = cursor.execute(query.text("sensors")).fetchall()
        sensors = []
        for host, boot, epoch, last_connected, lost in found:
            source = Source(host, boot, epoch)
            last_seq, last_commit = self._writer.progress(source)
            sensors.append(
                pb.SensorStatus(
                    host_id=host,
                    boot_id=boot,
                    epoch=epoch,
                    last_seq=last_seq,
                    last_seen=timestamp(last_commit or last_connected),
                    connected=source in connected,
                    lost=lost,
                )
            )
        return sensors

    def _rule_states(self, failing: dict[str, str]) -> list[pb.RuleStatus]:
        with self._store.cursor() as cursor:
            found = cursor.execute(query.text("alert_counts"), [self._started]).fetchall()
        alerts = dict(found)
        return [
            pb.RuleStatus(
                rule=rule.name,
                version=rule.version,
                alerts=alerts.get(rule.name, 0),
                error=failing.get(rule.name, ""),
            )
            for rule in self._rules
        ]

    def TailEvents(  # noqa: N802 - the name is the RPC's
        self, request: pb.TailEventsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.TailEventsResponse]:
        """Yield the rows of each later commit, as the views show them, until the reader leaves."""
        unknown = sorted(set(request.kinds) - set(schema.KINDS))
        if unknown:
            context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"There is no kind {', '.join(unknown)}. Kinds: {', '.join(schema.KINDS)}.",
            )
        kinds = tuple(request.kinds) or tuple(schema.KINDS)
        subscription = self._store.feed.subscribe(kinds=frozenset(kinds), max_rows=TAIL_ROWS)
        context.add_callback(subscription.close)
        context.send_initial_metadata(())  # the reader now knows that it misses nothing
        try:
            while context.is_active() and not subscription.closed:
                delivery = subscription.take(TAIL_SECONDS)
                if delivery is not None:
                    yield from self._tail(delivery)
        finally:
            subscription.close()

    def _tail(self, delivery: Delivery) -> Iterator[pb.TailEventsResponse]:
        skipped = delivery.skipped
        with self._store.cursor() as cursor:
            for kind, tables in delivery.tables.items():
                rows = sum(table.num_rows for table in tables)
                found = cursor.execute(
                    query.text("tail"),
                    [
                        f"hunt.{kind}",
                        delivery.first_ingest_id,
                        delivery.last_ingest_id,
                        rows,
                    ],
                ).to_arrow_table()
                for start in range(0, found.num_rows, MESSAGE_ROWS):
                    part = found.slice(start, MESSAGE_ROWS)
                    yield pb.TailEventsResponse(kind=kind, arrow=encode(part), skipped=skipped)
                    skipped = 0


def encode(table: pa.Table) -> bytes:
    """Return the table as one Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue())


def timestamp(value: datetime) -> Timestamp:
    """Return a naive UTC time, as DuckDB gives it, for the wire."""
    found = Timestamp()
    found.FromDatetime(value.replace(tzinfo=UTC))
    return found
