"""Who may call what: a certificate bears the role in its OU, the name in its CN.

One interceptor guards every service, so that none can forget to ask.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import grpc
from cryptography import x509
from cryptography.x509.oid import NameOID

SENSOR: Final = "sensor"
ANALYST: Final = "analyst"
CONTROL: Final = "control"

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


class RoleGuard(grpc.ServerInterceptor):  # type: ignore[misc]
    """Refuses calls whose certificate lacks the role that the method needs."""

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        handler = continuation(handler_call_details)
        if handler is None:
            return None
        return guarded(handler, needed(handler_call_details.method))


def guarded(handler: grpc.RpcMethodHandler, role: str) -> grpc.RpcMethodHandler:
    """Return the handler, asking for `role` before anything of it runs."""
    unary = handler.unary_unary or handler.stream_unary
    stream = handler.unary_stream or handler.stream_stream
    inner = unary or stream

    def call(request: Any, context: grpc.ServicerContext) -> Any:
        who = identity(context)
        if who.role != role:
            context.abort(
                grpc.StatusCode.PERMISSION_DENIED,
                f"certificate {who.name!r} has role {who.role or 'none'!r}, this needs {role!r}: "
                f"issue one with `limes ca issue --role {role}`",
            )
        return inner(request, context)

    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[handler.request_streaming, handler.response_streaming]
    return make(call, handler.request_deserializer, handler.response_serializer)
