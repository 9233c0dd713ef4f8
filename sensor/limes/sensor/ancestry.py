"""Who forked a process, also when it has another parent by the time it runs a program.

Invariant: only the parent's members of an exec record change, and only to what its fork says.
"""

from typing import Final

import numpy as np
from limes.sensor.source import Records
from limes.v1 import schema

_FORK: Final = schema.KINDS["process_forks"].number


def with_forkers(execs: Records, processes: Records) -> Records:
    """Execs whose parent is the process that forked them, where that fork is among `processes`.

    A shell that starts a job in the background may end before the job's exec; init is the parent
    then, and would hide who did it. What was forked earlier is found by its process_forks row.
    """
    forks = np.flatnonzero(processes["kind"] == _FORK)
    if not len(forks) or not len(execs):
        return execs
    starts = processes["start_ns"][forks]
    order = np.argsort(starts, kind="stable")
    forks, starts = forks[order], starts[order]
    at = np.minimum(np.searchsorted(starts, execs["start_ns"]), len(forks) - 1)
    found = forks[at]
    moved = starts[at] == execs["start_ns"]
    moved &= processes["tgid"][found] == execs["tgid"]
    moved &= processes["ppid"][found] != execs["ppid"]
    if not moved.any():
        return execs
    out, found = execs.copy(), found[moved]
    for member, source in (
        ("ppid", "ppid"),
        ("parent_start_ns", "parent_start_ns"),
        ("parent_exec_id", "exec_id"),  # a child runs its parent's image until it execs
    ):
        out[member][moved] = processes[source][found]
    return out
