"""Owns the limits of hunts: the section `[hunt]` of the control plane's configuration.

Each limit that can cut or stop a hunt is here and is named in what the analyst is told.
"""

from typing import Annotated

import msgspec

Positive = Annotated[int, msgspec.Meta(ge=1)]
Memory = Annotated[int, msgspec.Meta(ge=64)]


class HuntConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of hunts. Units are in the names."""

    # Longest time one hunt may run. Default: 30
    timeout_seconds: Positive = 30
    # Rows returned when the analyst does not say. Default: 10000
    default_rows: Positive = 10_000
    # Most rows an analyst may ask for. Default: 1000000
    max_rows: Positive = 1_000_000
    # Most Arrow data one hunt returns. Default: 64
    max_result_mib: Positive = 64
    # Memory DuckDB may use for one hunt. Default: 512
    memory_mib: Memory = 512
    # Address space of the worker's process, enforced by the kernel. Default: 2048
    address_space_mib: Annotated[int, msgspec.Meta(ge=1024)] = 2048
    # DuckDB threads of one hunt. Default: 2
    threads: Positive = 2
    # Hunts that run at once. Default: 2
    concurrent: Positive = 2
    # Hunts that may wait for their turn; further ones are refused. Default: 8
    queued: Annotated[int, msgspec.Meta(ge=0)] = 8
    # Longest time a hunt waits for its turn. Default: 30
    queue_seconds: Positive = 30
    # User that workers become when the server runs as root. Default: "nobody"
    user: str = "nobody"
    # Newest rows of each kind of event that a snapshot holds. Default: 2000000
    snapshot_rows: Positive = 2_000_000
    # Leave out events committed longer ago than this; 0: no bound but the rows. Default: 0
    snapshot_hours: Annotated[int, msgspec.Meta(ge=0)] = 0
    # Oldest snapshot that is used again when the analyst does not say. Default: 5
    snapshot_age_seconds: Annotated[int, msgspec.Meta(ge=0)] = 5
