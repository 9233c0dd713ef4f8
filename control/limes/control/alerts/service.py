"""The alert service: lists alerts and follows them as they are raised.

Alerts are sent in the order of raising, each once a call: a follower that names the last number it
has seen misses none.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from limes.control.alerts.board import AlertBoard
from limes.control.alerts.model import Alert
from limes.control.alerts.reading import list_alerts
from limes.control.store.connection import Store
from limes.v1 import alert_service_pb2 as pb
from limes.v1 import alert_service_pb2_grpc as rpc

LIST_LIMIT: Final = 1_000  # what the client gets when it names no limit
LIST_MOST: Final = 10_000
FOLLOW_CHUNK: Final = 200
FOLLOW_SECONDS: Final = 0.5  # how soon a follower's leaving is noticed

SEVERITIES: Final = {
    "low": pb.SEVERITY_LOW,
    "medium": pb.SEVERITY_MEDIUM,
    "high": pb.SEVERITY_HIGH,
    "critical": pb.SEVERITY_CRITICAL,
}


class AlertServicer(rpc.AlertServiceServicer):
    """Serves `AlertService` from `store`; `board` tells of new alerts."""

    def __init__(self, store: Store, board: AlertBoard) -> None:
        self._store = store
        self._board = board

    def ListAlerts(  # noqa: N802 - the name is the RPC's
        self,
        request: pb.ListAlertsRequest,
        context: grpc.ServicerContext,  # noqa: ARG002 - the RPC's signature
    ) -> pb.ListAlertsResponse:
        """Return alerts in the order they were raised."""
        limit = min(request.limit or LIST_LIMIT, LIST_MOST)
        with self._store.cursor() as cursor:
            alerts = list_alerts(
                cursor, after=request.after_number, alert_id=request.alert_id, limit=limit
            )
        return pb.ListAlertsResponse(alerts=[to_proto(alert) for alert in alerts])

    def FollowAlerts(  # noqa: N802 - the name is the RPC's
        self, request: pb.FollowAlertsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.FollowAlertsResponse]:
        """Yield alerts after a number, then each new one, until the reader leaves."""
        last = request.after_number
        with self._store.cursor() as cursor:
            while context.is_active():
                ended = self._board.closed
                alerts = list_alerts(cursor, after=last, limit=FOLLOW_CHUNK)
                for alert in alerts:
                    yield pb.FollowAlertsResponse(alert=to_proto(alert))
                    last = alert.number
                if not alerts and ended:
                    return
                if not alerts:
                    self._board.wait(last, FOLLOW_SECONDS)


def to_proto(alert: Alert) -> pb.Alert:
    """Return an alert as it is sent."""
    return pb.Alert(
        number=alert.number,
        alert_id=alert.alert_id,
        rule=alert.rule,
        rule_version=alert.rule_version,
        severity=SEVERITIES[alert.severity],
        attack=alert.attack,
        summary=alert.summary,
        event_time=timestamp(alert.event_time),
        raised_at=timestamp(alert.raised_at),
        host_id=alert.host_id,
        cgroup_path=alert.cgroup_path,
        cgroup_ancestors=alert.cgroup_ancestors,
        process_entity_id=alert.process_entity_id,
        process_tree=[
            pb.ProcessNode(
                process_entity_id=node.process_entity_id,
                process_exec_id=node.process_exec_id,
                process_pid=node.process_pid,
                process_executable=node.process_executable,
                process_command_line=node.process_command_line,
            )
            for node in alert.process_tree
        ],
        evidence=[
            pb.EvidenceId(kind=item.kind, epoch=item.sensor_epoch, event_seq=item.event_seq)
            for item in alert.evidence
        ],
        simulated_device=alert.simulated_device,
    )


def timestamp(value: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(value.replace(tzinfo=UTC))
    return stamp
