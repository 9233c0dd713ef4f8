import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("version", "database", "schema_version", "sensors", "rules", "events_committed", "batches_duplicate", "batches_malformed", "rewinds", "last_ingest_id", "rules_ingest_id", "rules_held", "disk_free_bytes", "disk_low")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DATABASE_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    SENSORS_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    EVENTS_COMMITTED_FIELD_NUMBER: _ClassVar[int]
    BATCHES_DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    BATCHES_MALFORMED_FIELD_NUMBER: _ClassVar[int]
    REWINDS_FIELD_NUMBER: _ClassVar[int]
    LAST_INGEST_ID_FIELD_NUMBER: _ClassVar[int]
    RULES_INGEST_ID_FIELD_NUMBER: _ClassVar[int]
    RULES_HELD_FIELD_NUMBER: _ClassVar[int]
    DISK_FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_LOW_FIELD_NUMBER: _ClassVar[int]
    version: str
    database: str
    schema_version: int
    sensors: _containers.RepeatedCompositeFieldContainer[SensorStatus]
    rules: _containers.RepeatedCompositeFieldContainer[RuleStatus]
    events_committed: int
    batches_duplicate: int
    batches_malformed: int
    rewinds: int
    last_ingest_id: int
    rules_ingest_id: int
    rules_held: int
    disk_free_bytes: int
    disk_low: bool
    def __init__(self, version: _Optional[str] = ..., database: _Optional[str] = ..., schema_version: _Optional[int] = ..., sensors: _Optional[_Iterable[_Union[SensorStatus, _Mapping]]] = ..., rules: _Optional[_Iterable[_Union[RuleStatus, _Mapping]]] = ..., events_committed: _Optional[int] = ..., batches_duplicate: _Optional[int] = ..., batches_malformed: _Optional[int] = ..., rewinds: _Optional[int] = ..., last_ingest_id: _Optional[int] = ..., rules_ingest_id: _Optional[int] = ..., rules_held: _Optional[int] = ..., disk_free_bytes: _Optional[int] = ..., disk_low: _Optional[bool] = ...) -> None: ...

class SensorStatus(_message.Message):
    __slots__ = ("host_id", "boot_id", "epoch", "last_seq", "last_seen", "connected", "lost")
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQ_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    host_id: str
    boot_id: str
    epoch: int
    last_seq: int
    last_seen: _timestamp_pb2.Timestamp
    connected: bool
    lost: int
    def __init__(self, host_id: _Optional[str] = ..., boot_id: _Optional[str] = ..., epoch: _Optional[int] = ..., last_seq: _Optional[int] = ..., last_seen: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., connected: _Optional[bool] = ..., lost: _Optional[int] = ...) -> None: ...

class RuleStatus(_message.Message):
    __slots__ = ("rule", "version", "alerts", "error")
    RULE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ALERTS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    rule: str
    version: int
    alerts: int
    error: str
    def __init__(self, rule: _Optional[str] = ..., version: _Optional[int] = ..., alerts: _Optional[int] = ..., error: _Optional[str] = ...) -> None: ...

class TailEventsRequest(_message.Message):
    __slots__ = ("kinds",)
    KINDS_FIELD_NUMBER: _ClassVar[int]
    kinds: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, kinds: _Optional[_Iterable[str]] = ...) -> None: ...

class TailEventsResponse(_message.Message):
    __slots__ = ("kind", "arrow", "skipped")
    KIND_FIELD_NUMBER: _ClassVar[int]
    ARROW_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    kind: str
    arrow: bytes
    skipped: int
    def __init__(self, kind: _Optional[str] = ..., arrow: _Optional[bytes] = ..., skipped: _Optional[int] = ...) -> None: ...
