import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Severity(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SEVERITY_UNSPECIFIED: _ClassVar[Severity]
    SEVERITY_LOW: _ClassVar[Severity]
    SEVERITY_MEDIUM: _ClassVar[Severity]
    SEVERITY_HIGH: _ClassVar[Severity]
    SEVERITY_CRITICAL: _ClassVar[Severity]
SEVERITY_UNSPECIFIED: Severity
SEVERITY_LOW: Severity
SEVERITY_MEDIUM: Severity
SEVERITY_HIGH: Severity
SEVERITY_CRITICAL: Severity

class ListAlertsRequest(_message.Message):
    __slots__ = ("after_number", "limit", "alert_id")
    AFTER_NUMBER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    ALERT_ID_FIELD_NUMBER: _ClassVar[int]
    after_number: int
    limit: int
    alert_id: str
    def __init__(self, after_number: _Optional[int] = ..., limit: _Optional[int] = ..., alert_id: _Optional[str] = ...) -> None: ...

class ListAlertsResponse(_message.Message):
    __slots__ = ("alerts",)
    ALERTS_FIELD_NUMBER: _ClassVar[int]
    alerts: _containers.RepeatedCompositeFieldContainer[Alert]
    def __init__(self, alerts: _Optional[_Iterable[_Union[Alert, _Mapping]]] = ...) -> None: ...

class FollowAlertsRequest(_message.Message):
    __slots__ = ("after_number",)
    AFTER_NUMBER_FIELD_NUMBER: _ClassVar[int]
    after_number: int
    def __init__(self, after_number: _Optional[int] = ...) -> None: ...

class FollowAlertsResponse(_message.Message):
    __slots__ = ("alert",)
    ALERT_FIELD_NUMBER: _ClassVar[int]
    alert: Alert
    def __init__(self, alert: _Optional[_Union[Alert, _Mapping]] = ...) -> None: ...

class Alert(_message.Message):
    __slots__ = ("number", "alert_id", "rule", "rule_version", "severity", "attack", "summary", "event_time", "raised_at", "host_id", "cgroup_path", "cgroup_ancestors", "process_entity_id", "process_tree", "evidence", "simulated_device")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    ALERT_ID_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    RULE_VERSION_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    ATTACK_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    RAISED_AT_FIELD_NUMBER: _ClassVar[int]
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    CGROUP_PATH_FIELD_NUMBER: _ClassVar[int]
    CGROUP_ANCESTORS_FIELD_NUMBER: _ClassVar[int]
    PROCESS_ENTITY_ID_FIELD_NUMBER: _ClassVar[int]
    PROCESS_TREE_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    SIMULATED_DEVICE_FIELD_NUMBER: _ClassVar[int]
    number: int
    alert_id: str
    rule: str
    rule_version: int
    severity: Severity
    attack: _containers.RepeatedScalarFieldContainer[str]
    summary: str
    event_time: _timestamp_pb2.Timestamp
    raised_at: _timestamp_pb2.Timestamp
    host_id: str
    cgroup_path: str
    cgroup_ancestors: _containers.RepeatedScalarFieldContainer[str]
    process_entity_id: int
    process_tree: _containers.RepeatedCompositeFieldContainer[ProcessNode]
    evidence: _containers.RepeatedCompositeFieldContainer[EvidenceId]
    simulated_device: bool
    def __init__(self, number: _Optional[int] = ..., alert_id: _Optional[str] = ..., rule: _Optional[str] = ..., rule_version: _Optional[int] = ..., severity: _Optional[_Union[Severity, str]] = ..., attack: _Optional[_Iterable[str]] = ..., summary: _Optional[str] = ..., event_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., raised_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., host_id: _Optional[str] = ..., cgroup_path: _Optional[str] = ..., cgroup_ancestors: _Optional[_Iterable[str]] = ..., process_entity_id: _Optional[int] = ..., process_tree: _Optional[_Iterable[_Union[ProcessNode, _Mapping]]] = ..., evidence: _Optional[_Iterable[_Union[EvidenceId, _Mapping]]] = ..., simulated_device: _Optional[bool] = ...) -> None: ...

class ProcessNode(_message.Message):
    __slots__ = ("process_entity_id", "process_exec_id", "process_pid", "process_executable", "process_command_line")
    PROCESS_ENTITY_ID_FIELD_NUMBER: _ClassVar[int]
    PROCESS_EXEC_ID_FIELD_NUMBER: _ClassVar[int]
    PROCESS_PID_FIELD_NUMBER: _ClassVar[int]
    PROCESS_EXECUTABLE_FIELD_NUMBER: _ClassVar[int]
    PROCESS_COMMAND_LINE_FIELD_NUMBER: _ClassVar[int]
    process_entity_id: int
    process_exec_id: int
    process_pid: int
    process_executable: str
    process_command_line: str
    def __init__(self, process_entity_id: _Optional[int] = ..., process_exec_id: _Optional[int] = ..., process_pid: _Optional[int] = ..., process_executable: _Optional[str] = ..., process_command_line: _Optional[str] = ...) -> None: ...

class EvidenceId(_message.Message):
    __slots__ = ("kind", "epoch", "event_seq")
    KIND_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    EVENT_SEQ_FIELD_NUMBER: _ClassVar[int]
    kind: str
    epoch: int
    event_seq: int
    def __init__(self, kind: _Optional[str] = ..., epoch: _Optional[int] = ..., event_seq: _Optional[int] = ...) -> None: ...
