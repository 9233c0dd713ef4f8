"""The table of signals, plans and programs: what serves what, and what each cannot see.

Invariant: every program of the object is here, and `bpf/lib/README.md` shows this table.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One BPF program: its function, the kernel's name of its hook, and if a kernel may lack it."""

    name: str
    hook: str
    optional: bool = False
    syscall: bool = False  # slows every system call of the host: only where asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to get a signal under a plan; `blind` says what it does not see."""

    plan: str
    programs: tuple[Program, ...]
    blind: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """What is to be known, with the ways to it from the best to the last."""

    name: str
    ways: tuple[Way, ...]


_BLIND_EXEC: Final = "failed execs and threads"
_CONNECT4: Final = Program(name="handle_connect4", hook="cgroup/connect4")
_CONNECT6: Final = Program(name="handle_connect6", hook="cgroup/connect6")
_SYS_EXIT: Final = Program(
    name="handle_sys_exit", hook="tp_btf/sys_exit", optional=True, syscall=True
)


def _tracepoint(name: str, program: str, hook: str, blind: str = "") -> Signal:
    programs = (Program(name=program, hook=hook),)
    return Signal(name=name, ways=(Way(plan="tracepoint", programs=programs, blind=blind),))


SIGNALS: Final[tuple[Signal, ...]] = (
    _tracepoint("process_exec", "handle_exec", "tp_btf/sched_process_exec", _BLIND_EXEC),
    _tracepoint("process_fork", "handle_fork", "tp_btf/sched_process_fork"),
    _tracepoint("process_exit", "handle_exit", "tp_btf/sched_process_exit"),
    _tracepoint(
        "tcp_state",
        "handle_set_state",
        "tp_btf/inet_sock_set_state",
        "inbound connections, MPTCP, SCTP",
    ),
    _tracepoint("connection_progress", "emit_progress", "raw_tp/test_run"),
    Signal(
        name="connect_result",
        ways=(
            Way(
                plan="fentry",
                programs=(
                    Program(name="handle_tcp_v4", hook="fexit/tcp_v4_connect"),
                    Program(name="handle_tcp_v6", hook="fexit/tcp_v6_connect"),
                    Program(name="handle_dgram", hook="fexit/inet_dgram_connect"),
                ),
                blind="datagrams sent without connect",
            ),
            Way(
                plan="tracepoint",
                programs=(_CONNECT4, _CONNECT6, _SYS_EXIT),
                blind="datagrams sent without connect; results of UDP connects by io_uring; "
                "without sys_exit: results of UDP connects, TCP connects that fail before a SYN",
            ),
        ),
    ),
    Signal(
        name="gpu_ioctl",
        ways=(
            Way(
                plan="fentry",
                programs=(
                    Program(name="handle_ioctl", hook="fentry/security_file_ioctl"),
                    Program(
                        name="handle_ioctl_compat",
                        hook="fentry/security_file_ioctl_compat",
                        optional=True,
                    ),
                ),
                blind="kernel launches (no ioctl); calls' results; without its compat twin: "
                "32-bit callers",
            ),
            Way(
                plan="tracepoint",
                programs=(Program(name="handle_sys_enter", hook="tp_btf/sys_enter", syscall=True),),
                blind="kernel launches (no ioctl); calls' results; 32-bit callers",
            ),
        ),
    ),
    _tracepoint("cgroup_mkdir", "handle_cgroup_mkdir", "tp_btf/cgroup_mkdir"),
    _tracepoint("cgroup_rmdir", "handle_cgroup_rmdir", "tp_btf/cgroup_rmdir"),
    _tracepoint("cgroup_attach", "handle_cgroup_attach", "tp_btf/cgroup_attach_task"),
)

PROGRAMS: Final[dict[str, Program]] = {
    program.name: program for signal in SIGNALS for way in signal.ways for program in way.programs
}
