import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class HuntRequest(_message.Message):
    __slots__ = ("sql", "timeout_seconds", "max_rows", "max_age_seconds")
    SQL_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MAX_ROWS_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    sql: str
    timeout_seconds: int
    max_rows: int
    max_age_seconds: int
    def __init__(self, sql: _Optional[str] = ..., timeout_seconds: _Optional[int] = ..., max_rows: _Optional[int] = ..., max_age_seconds: _Optional[int] = ...) -> None: ...

class HuntResponse(_message.Message):
    __slots__ = ("header", "arrow", "summary")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    ARROW_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    header: HuntHeader
    arrow: bytes
    summary: HuntSummary
    def __init__(self, header: _Optional[_Union[HuntHeader, _Mapping]] = ..., arrow: _Optional[bytes] = ..., summary: _Optional[_Union[HuntSummary, _Mapping]] = ...) -> None: ...

class HuntHeader(_message.Message):
    __slots__ = ("snapshot_time", "oldest_event_time", "snapshot_age_ms", "kinds")
    SNAPSHOT_TIME_FIELD_NUMBER: _ClassVar[int]
    OLDEST_EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_AGE_MS_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    snapshot_time: _timestamp_pb2.Timestamp
    oldest_event_time: _timestamp_pb2.Timestamp
    snapshot_age_ms: int
    kinds: _containers.RepeatedCompositeFieldContainer[SnapshotKind]
    def __init__(self, snapshot_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., oldest_event_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., snapshot_age_ms: _Optional[int] = ..., kinds: _Optional[_Iterable[_Union[SnapshotKind, _Mapping]]] = ...) -> None: ...

class SnapshotKind(_message.Message):
    __slots__ = ("kind", "rows", "store_rows", "oldest_event_time")
    KIND_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    STORE_ROWS_FIELD_NUMBER: _ClassVar[int]
    OLDEST_EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    kind: str
    rows: int
    store_rows: int
    oldest_event_time: _timestamp_pb2.Timestamp
    def __init__(self, kind: _Optional[str] = ..., rows: _Optional[int] = ..., store_rows: _Optional[int] = ..., oldest_event_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class HuntSummary(_message.Message):
    __slots__ = ("rows", "truncated", "elapsed_ms", "limit")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    ELAPSED_MS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    rows: int
    truncated: bool
    elapsed_ms: int
    limit: str
    def __init__(self, rows: _Optional[int] = ..., truncated: _Optional[bool] = ..., elapsed_ms: _Optional[int] = ..., limit: _Optional[str] = ...) -> None: ...
