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
    forks = processes[processes["kind"] == _FORK]
    if not len(forks) or not len(execs):
        return execs
    forks = forks[np.argsort(forks["start_ns"], kind="stable")]
    at = np.minimum(np.searchsorted(forks["start_ns"], execs["start_ns"]), len(forks) - 1)
    found = forks[at]
    same = (found["start_ns"] == execs["start_ns"]) & (found["tgid"] == execs["tgid"])
    moved = same & (found["ppid"] != execs["ppid"])
    if not moved.any():
        return execs
    out = execs.copy()
    for member, source in (
        ("ppid", "ppid"),
        ("parent_start_ns", "parent_start_ns"),
        ("parent_exec_id", "exec_id"),  # a child runs its parent's image until it execs
    ):
        out[member][moved] = found[source][moved]
    return out
