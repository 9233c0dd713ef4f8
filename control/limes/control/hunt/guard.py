"""Takes from a hunt's process what a query does not need, in two steps, before the query is read.

After `seal` the process can open nothing, start nothing and become nobody else.
"""

import ctypes
import os
import resource
import signal
from pathlib import Path
from typing import Final

PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
PR_SET_NO_NEW_PRIVS: Final = 38


def confine(*, address_space_bytes: int, cpu_seconds: int, parent_pid: int) -> None:
    """First step, before any thread is made: limits that the whole life of the process has.

    Raises OSError when the kernel refuses one.
    """
    os.umask(0o077)
    os.nice(10)  # a hunt never competes with ingest
    Path("/proc/self/oom_score_adj").write_text("1000")  # nor does the server die for it
    # Per thread, and inherited: hence before DuckDB and Arrow start theirs.
    control_process(PR_SET_NO_NEW_PRIVS, 1)
    die_with_parent(parent_pid)
    resource.setrlimit(resource.RLIMIT_AS, (address_space_bytes, address_space_bytes))
    # The soft limit's SIGXCPU ends it; the hard one's SIGKILL would, if that were caught.
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))
    for limit in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        resource.setrlimit(limit, (0, 0))


def seal(*, user_id: int, group_id: int, parent_pid: int) -> None:
    """Second step, when all that is needed is open, imported and started.

    Becomes `user_id` and `group_id` (-1: stays). Raises OSError when the kernel refuses.
    """
    if user_id >= 0:
        os.setgroups([])
        os.setresgid(group_id, group_id, group_id)
        os.setresuid(user_id, user_id, user_id)  # of every thread: the C library sees to it
        die_with_parent(parent_pid)  # the kernel forgets it when the user changes
    control_process(PR_SET_DUMPABLE, 0)  # another hunt of the same user cannot look in
    # With a hard limit of 0 open, socket, pipe and dup fail; with the other one clone does.
    for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC):
        resource.setrlimit(limit, (0, 0))


def die_with_parent(parent_pid: int) -> None:
    """End with the thread that started this process; at once when that has ended already."""
    control_process(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), signal.SIGKILL)


def control_process(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl option {option}: {os.strerror(number)}")
