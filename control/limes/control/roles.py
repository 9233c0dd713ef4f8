"""Who may call what: a certificate bears the role in its OU, the name in its CN.

One interceptor guards every service, so that none can forget to ask.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import grpc
from cryptography import x509
from cryptography.x509.oid import NameOID

SENSOR: Final = "sensor"
ANALYST: Final = "analyst"
CONTROL: Final = "control"

CALLS: Final = {SENSOR: 4, ANALYST: 16}  # open at once, of one certificate
INGEST_PREFIX: Final = "/limes.v1.IngestService/"


class Identity(NamedTuple):
    """The caller, as its certificate says; empty words when it says nothing."""

    name: str
    role: str


def identity(context: grpc.ServicerContext) -> Identity:
    """Return who is calling, from the certificate that TLS has verified."""
    chain = context.auth_context().get("x509_pem_cert")
    if not chain:
        return Identity("", "")
    return identity_of(x509.load_pem_x509_certificate(chain[0]))


def identity_of(certificate: x509.Certificate) -> Identity:
    """Return the common name and the role of a certificate."""
    return Identity(
        word(certificate.subject, NameOID.COMMON_NAME),
        word(certificate.subject, NameOID.ORGANIZATIONAL_UNIT_NAME),
    )


def word(subject: x509.Name, oid: x509.ObjectIdentifier) -> str:
    found = subject.get_attributes_for_oid(oid)
    return str(found[0].value) if found else ""


def needed(method: str) -> str:
    """Return the role that a method needs."""
    return SENSOR if method.startswith(INGEST_PREFIX) else ANALYST


class Shares:
    """How many calls each certificate has open: each holds a thread of the server.

    One certificate may have CALLS of its role; all analysts together half of `threads`, so that
    events always get in.
    """

    def __init__(self, threads: int) -> None:
        self._analysts = max(1, threads // 2)
        self._lock = threading.Lock()
        self._open: Counter[Identity] = Counter()

    def refusal(self, who: Identity) -> str:
        """Count a call of `who` and return nothing; or say why it may not have one more."""
        with self._lock:
            if self._open[who] >= CALLS[who.role]:
                return (
                    f"certificate {who.name!r} has {self._open[who]} calls open, the most that one "
                    "may have: end some first"
                )
            analysts = sum(n for other, n in self._open.items() if other.role == ANALYST)
            if who.role == ANALYST and analysts >= self._analysts:
                return f"analysts have {analysts} calls open, the most they may have: try later"
            self._open[who] += 1
        return ""

    def release(self, who: Identity) -> None:
        """Count the end of a call of `who`."""
        with self._lock:
            self._open[who] -= 1
            if not self._open[who]:
                del self._open[who]


class RoleGuard(grpc.ServerInterceptor):  # type: ignore[misc]
    """Refuses calls whose certificate lacks the role that the method needs, or has its share."""

    def __init__(self, threads: int) -> None:
        """`threads` is what the server has for calls."""
        self._shares = Shares(threads)

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        handler = continuation(handler_call_details)
        if handler is None:
            return None
        return guarded(handler, needed(handler_call_details.method), self._shares)


def guarded(handler: grpc.RpcMethodHandler, role: str, shares: Shares) -> grpc.RpcMethodHandler:
    """Return the handler, asking for `role` and a share before anything of it runs."""
    unary = handler.unary_unary or handler.stream_unary
    stream = handler.unary_stream or handler.stream_stream

    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        with admitted(context, role, shares):
            return unary(request, context)

    # A generator takes its share when it is begun: one that never is would keep it for ever.
    def answers(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        with admitted(context, role, shares):
            yield from stream(request, context)

    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[handler.request_streaming, handler.response_streaming]
    inner = answers if handler.response_streaming else answer
    return make(inner, handler.request_deserializer, handler.response_serializer)


@contextmanager
def admitted(context: grpc.ServicerContext, role: str, shares: Shares) -> Iterator[None]:
    """Hold a share of the caller's for the block; ends the call when it may not be made."""
    who = identity(context)
    if who.role != role:
        context.abort(
            grpc.StatusCode.PERMISSION_DENIED,
            f"certificate {who.name!r} has role {who.role or 'none'!r}, this needs {role!r}: "
            f"issue one with `limes ca issue --role {role}`",
        )
    reason = shares.refusal(who)
    if reason:
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, reason)
    try:
        yield
    finally:
        shares.release(who)
