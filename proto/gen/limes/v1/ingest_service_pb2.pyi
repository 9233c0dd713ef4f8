from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EventKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EVENT_KIND_UNSPECIFIED: _ClassVar[EventKind]
    EVENT_KIND_PROCESS_EXECS: _ClassVar[EventKind]
    EVENT_KIND_PROCESS_FORKS: _ClassVar[EventKind]
    EVENT_KIND_PROCESS_EXITS: _ClassVar[EventKind]
    EVENT_KIND_CONNECTIONS: _ClassVar[EventKind]
    EVENT_KIND_GPU_EVENTS: _ClassVar[EventKind]
    EVENT_KIND_GPU_ACTIVITY: _ClassVar[EventKind]
    EVENT_KIND_CGROUP_EVENTS: _ClassVar[EventKind]
    EVENT_KIND_SENSOR_HEALTH: _ClassVar[EventKind]
    EVENT_KIND_SENSOR_HOOKS: _ClassVar[EventKind]
    EVENT_KIND_LOSSES: _ClassVar[EventKind]
EVENT_KIND_UNSPECIFIED: EventKind
EVENT_KIND_PROCESS_EXECS: EventKind
EVENT_KIND_PROCESS_FORKS: EventKind
EVENT_KIND_PROCESS_EXITS: EventKind
EVENT_KIND_CONNECTIONS: EventKind
EVENT_KIND_GPU_EVENTS: EventKind
EVENT_KIND_GPU_ACTIVITY: EventKind
EVENT_KIND_CGROUP_EVENTS: EventKind
EVENT_KIND_SENSOR_HEALTH: EventKind
EVENT_KIND_SENSOR_HOOKS: EventKind
EVENT_KIND_LOSSES: EventKind

class StreamRequest(_message.Message):
    __slots__ = ("hello", "batches", "gap")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    batches: EventBatches
    gap: Gap
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., batches: _Optional[_Union[EventBatches, _Mapping]] = ..., gap: _Optional[_Union[Gap, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("host_id", "boot_id", "epoch", "abi_version", "sensor_version", "kernel_release")
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ABI_VERSION_FIELD_NUMBER: _ClassVar[int]
    SENSOR_VERSION_FIELD_NUMBER: _ClassVar[int]
    KERNEL_RELEASE_FIELD_NUMBER: _ClassVar[int]
    host_id: str
    boot_id: str
    epoch: int
    abi_version: int
    sensor_version: str
    kernel_release: str
    def __init__(self, host_id: _Optional[str] = ..., boot_id: _Optional[str] = ..., epoch: _Optional[int] = ..., abi_version: _Optional[int] = ..., sensor_version: _Optional[str] = ..., kernel_release: _Optional[str] = ...) -> None: ...

class EventBatches(_message.Message):
    __slots__ = ("batches",)
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    batches: _containers.RepeatedCompositeFieldContainer[EventBatch]
    def __init__(self, batches: _Optional[_Iterable[_Union[EventBatch, _Mapping]]] = ...) -> None: ...

class EventBatch(_message.Message):
    __slots__ = ("kind", "first_seq", "count", "payload")
    KIND_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQ_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    kind: EventKind
    first_seq: int
    count: int
    payload: bytes
    def __init__(self, kind: _Optional[_Union[EventKind, str]] = ..., first_seq: _Optional[int] = ..., count: _Optional[int] = ..., payload: _Optional[bytes] = ...) -> None: ...

class Gap(_message.Message):
    __slots__ = ("first_seq", "last_seq", "cause")
    FIRST_SEQ_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQ_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    first_seq: int
    last_seq: int
    cause: str
    def __init__(self, first_seq: _Optional[int] = ..., last_seq: _Optional[int] = ..., cause: _Optional[str] = ...) -> None: ...

class StreamResponse(_message.Message):
    __slots__ = ("ack", "rewind", "settings")
    ACK_FIELD_NUMBER: _ClassVar[int]
    REWIND_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    ack: Ack
    rewind: Rewind
    settings: Settings
    def __init__(self, ack: _Optional[_Union[Ack, _Mapping]] = ..., rewind: _Optional[_Union[Rewind, _Mapping]] = ..., settings: _Optional[_Union[Settings, _Mapping]] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("last_seq",)
    LAST_SEQ_FIELD_NUMBER: _ClassVar[int]
    last_seq: int
    def __init__(self, last_seq: _Optional[int] = ...) -> None: ...

class Rewind(_message.Message):
    __slots__ = ("next_seq",)
    NEXT_SEQ_FIELD_NUMBER: _ClassVar[int]
    next_seq: int
    def __init__(self, next_seq: _Optional[int] = ...) -> None: ...

class Settings(_message.Message):
    __slots__ = ("last_seq", "labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    LAST_SEQ_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    last_seq: int
    labels: _containers.ScalarMap[str, str]
    def __init__(self, last_seq: _Optional[int] = ..., labels: _Optional[_Mapping[str, str]] = ...) -> None: ...
