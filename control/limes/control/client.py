"""Talks to a control plane over mTLS, for the command line and for tests.

Every failure is a ControlError of one line; no gRPC error leaves this module.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import grpc
import pyarrow as pa
from limes.control import ca
from limes.control.errors import CertificateError, HuntError, UnreachableError
from limes.control.hunt.outcomes import NO_OUTCOMES, OUTCOMES
from limes.control.hunt.result import HuntResult, collect
from limes.control.roles import ANALYST
from limes.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    alert_service_pb2,
    alert_service_pb2_grpc,
    hunt_service_pb2,
    hunt_service_pb2_grpc,
)

MESSAGE_BYTES: Final = 64 << 20
CONNECT_SECONDS: Final = 5.0
CALL_SECONDS: Final = 30.0
# The words gRPC has for a handshake that failed on the server's certificate.
HANDSHAKE_WORDS: Final = (
    "CERTIFICATE_VERIFY_FAILED",
    "Ssl handshake failed",
    "Hostname Verification",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TailBatch:
    """Rows of one kind, as the view shows them; `skipped` rows before them were left out."""

    kind: str
    table: pa.Table
    skipped: int


class ControlClient:
    """A connection to the control plane at `address` (host:port); a context manager.

    `ca`, `cert` and `key` are files. Raises CertificateError at once when they are no good.
    """

    def __init__(self, address: str, ca_path: Path, cert: Path, key: Path) -> None:
        ca.check(cert, key, ca_path, ANALYST)
        self.address = address
        credentials = grpc.ssl_channel_credentials(
            ca_path.read_bytes(), key.read_bytes(), cert.read_bytes()
        )
        self._channel = grpc.secure_channel(
            address,
            credentials,
            options=[
                ("grpc.max_receive_message_length", MESSAGE_BYTES),
                ("grpc.keepalive_time_ms", 30_000),
                ("grpc.keepalive_timeout_ms", 10_000),
            ],
        )
        self._admin = admin_service_pb2_grpc.AdminServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._alerts = alert_service_pb2_grpc.AlertServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._hunts = hunt_service_pb2_grpc.HuntServiceStub(self._channel)  # type: ignore[no-untyped-call]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    def status(self, *, timeout: float = CALL_SECONDS) -> admin_service_pb2.GetStatusResponse:
        """Return the state of sensors, store and rules."""
        with self._errors():
            request = admin_service_pb2.GetStatusRequest()
            answer: admin_service_pb2.GetStatusResponse
            answer = self._admin.GetStatus(request, timeout=timeout)
            return answer

    def tail(self, kinds: Sequence[str] = ()) -> Generator[TailBatch, None, None]:
        """Return events as they are committed, until the server stops or the iterator is closed.

        Nothing that is committed after this returned is missed. `kinds` is empty for all.
        """
        request = admin_service_pb2.TailEventsRequest(kinds=list(kinds))
        with self._errors():
            call = self._admin.TailEvents(request)
            call.initial_metadata()  # the server sends it once it has subscribed
        return self._batches(call)

    def _batches(self, call: grpc.Call) -> Generator[TailBatch, None, None]:
        with self._errors():
            try:
                for response in call:
                    table = pa.ipc.open_stream(response.arrow).read_all()
                    yield TailBatch(kind=response.kind, table=table, skipped=response.skipped)
            finally:
                call.cancel()

    def list_alerts(
        self, *, after_number: int = 0, limit: int = 0, alert_id: str = ""
    ) -> list[alert_service_pb2.Alert]:
        """Return alerts in the order they were raised."""
        request = alert_service_pb2.ListAlertsRequest(
            after_number=_most(after_number, 63), limit=_most(limit, 32), alert_id=alert_id
        )
        with self._errors():
            return list(self._alerts.ListAlerts(request, timeout=CALL_SECONDS).alerts)

    def follow_alerts(self, *, after_number: int = 0) -> Iterator[alert_service_pb2.Alert]:
        """Yield alerts after a number, then each new one, until the server stops."""
        request = alert_service_pb2.FollowAlertsRequest(after_number=_most(after_number, 63))
        with self._errors():
            call = self._alerts.FollowAlerts(request)
            try:
                for response in call:
                    yield response.alert
            finally:
                call.cancel()

    def hunt(
        self,
        sql: str,
        *,
        timeout_seconds: int = 0,
        max_rows: int = 0,
        max_age_seconds: int | None = None,
    ) -> HuntResult:
        """Return the answer of one SELECT. Raises HuntError when it was refused or stopped."""
        request = hunt_service_pb2.HuntRequest(
            sql=sql,
            timeout_seconds=_most(timeout_seconds, 32),
            max_rows=_most(max_rows, 32),
            max_age_seconds=None if max_age_seconds is None else _most(max_age_seconds, 32),
        )
        with self._errors(OUTCOMES):
            return collect(self._hunts.Hunt(request))

    @contextmanager
    def _errors(self, outcomes: Mapping[grpc.StatusCode, str] = NO_OUTCOMES) -> Iterator[None]:
        """Turn failed calls into errors of ours; codes in `outcomes` are a hunt's own."""
        try:
            yield
        except grpc.RpcError as error:
            if error.code() in outcomes:
                said = " ".join((error.details() or "").split())
                raise HuntError(said, outcome=outcomes[error.code()]) from error
            raise explain(error, self.address) from error


def _most(number: int, bits: int) -> int:
    """Return the number, or the greatest that fits: no limit is reached beyond that either."""
    return min(number, (1 << bits) - 1)


def explain(error: grpc.RpcError, address: str) -> UnreachableError | CertificateError:
    """Return a failed call as one line: what was tried, what was found, what to do."""
    code, details = error.code(), " ".join((error.details() or "").split())
    if code is not grpc.StatusCode.UNAVAILABLE:
        return UnreachableError(details or f"The control plane at {address} answered {code.name}.")
    if any(word in details for word in HANDSHAKE_WORDS):
        return CertificateError(
            f"Cannot trust the control plane at {address}: {details}. Use the CA that issued its "
            "certificate, and an address that the certificate names."
        )
    return UnreachableError(
        f"Cannot reach the control plane at {address}: {details}. Check that it runs "
        "(`limes control serve`), its address, and that its CA issued this certificate."
    )
