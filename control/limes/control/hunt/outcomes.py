"""How hunts end without an answer, as gRPC says it: one code for each outcome, on both sides."""

from collections.abc import Mapping
from typing import Final

import grpc

CODES: Final[Mapping[str, grpc.StatusCode]] = {
    "refused": grpc.StatusCode.INVALID_ARGUMENT,
    "timeout": grpc.StatusCode.DEADLINE_EXCEEDED,
    "memory": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "busy": grpc.StatusCode.ABORTED,
    "cancelled": grpc.StatusCode.CANCELLED,
    "failed": grpc.StatusCode.INTERNAL,
}
OUTCOMES: Final[Mapping[grpc.StatusCode, str]] = {code: name for name, code in CODES.items()}
NO_OUTCOMES: Final[Mapping[grpc.StatusCode, str]] = {}
