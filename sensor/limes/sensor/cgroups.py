"""Names of cgroups: id to path and labels, kept from kernel records and from walks of the tree.

Invariant: a path is announced (as a row of cgroup_events) no later than the first event under it
that is sent, whenever the cgroup still exists or its creation was seen.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from limes.sensor import attribution, strings
from limes.sensor.arrow import Column
from limes.sensor.errors import KernelUnsupported
from limes.sensor.source import Records, U64s

DEAD_KEPT_NS: Final = 3600 * 1_000_000_000
"""How long the path of a removed cgroup is kept for events that come late."""

_MAX_UNKNOWN: Final = 4096
_MAX_DEAD: Final = 65_536


def find_mount(mountinfo: str) -> Path:
    """Where cgroup v2 is mounted, from the text of /proc/self/mountinfo.

    On hybrid hosts that is a folder beside the v1 controllers. Raises KernelUnsupported.
    """
    found: list[Path] = []
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        if right.split(" ", 1)[0] == "cgroup2":
            point = left.split(" ")[4]
            found.append(Path(point.encode().decode("unicode_escape")))
    if not found:
        raise KernelUnsupported(
            "Looked for a cgroup v2 mount in /proc/self/mountinfo and found none: "
            "mount one (mount -t cgroup2 none /sys/fs/cgroup/unified)."
        )
    return min(found, key=lambda point: len(point.parts))


class CgroupTree:
    """The mounted cgroup v2 tree, or the parts of it that are in scope."""

    def __init__(self, mount: Path, scope: Sequence[str] = ("/",)) -> None:
        self.mount = mount
        self.scope = tuple(scope)

    def directory(self, path: str) -> Path:
        """Directory of a cgroup path."""
        return self.mount / path.lstrip("/")

    def walk(self) -> dict[int, str]:
        """Every cgroup in scope: id to path. What vanishes meanwhile is left out."""
        out: dict[int, str] = {}
        for root in self.scope:
            directory = self.directory(root)
            try:
                out[directory.stat().st_ino] = "/" + root.strip("/")
            except OSError:
                continue
            self._descend(str(directory), root.rstrip("/"), out)
        return out

    def _descend(self, directory: str, path: str, out: dict[int, str]) -> None:
        stack = [(directory, path)]
        while stack:
            directory, path = stack.pop()
            try:
                with os.scandir(directory) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            below = f"{path}/{entry.name}"
                            out[entry.inode()] = below
                            stack.append((entry.path, below))
            except OSError:
                continue


class CgroupNames:
    """Paths and labels by cgroup id, with memory of the dead."""

    def __init__(self) -> None:
        self._paths: dict[int, str] = {}
        self._dead: dict[int, int] = {}
        self._cut: dict[int, str] = {}
        self._unknown: dict[int, None] = {}
        self._last = 0

    def __len__(self) -> int:
        return len(self._paths)

    def path(self, cgroup_id: int) -> str:
        """Path of a cgroup; empty when unknown."""
        return self._paths.get(cgroup_id, "")

    def learn(self, records: Records) -> None:
        """Takes the paths from cgroup records and notes the removed ones as dead."""
        ids, first = np.unique(records["cgroup_id"], return_index=True)
        for cgroup_id, row in zip(ids.tolist(), first.tolist(), strict=True):
            if cgroup_id in self._paths:
                continue
            path = bytes(records["path"][row]).partition(b"\0")[0]
            text = "/" + path.decode("utf-8", "replace").strip("/")
            # A path that fills its slot was cut: the next walk may find the whole.
            cut = len(path) >= records["path"].shape[1] - 1
            (self._cut if cut else self._paths)[cgroup_id] = text
        removed = records[records["action"] == _RMDIR]
        for cgroup_id, when in zip(
            removed["cgroup_id"].tolist(), removed["time_ns"].tolist(), strict=True
        ):
            self._dead[cgroup_id] = when
        if len(self._dead) > _MAX_DEAD:
            self._bury(sorted(self._dead, key=self._dead.__getitem__)[: _MAX_DEAD // 2])

    def add(self, found: Mapping[int, str]) -> list[int]:
        """Takes the result of a walk; returns the ids that were not known before."""
        fresh = [cgroup_id for cgroup_id in found if cgroup_id not in self._paths]
        self._paths.update(found)
        for cgroup_id in fresh:
            self._unknown.pop(cgroup_id, None)
            self._cut.pop(cgroup_id, None)
        return fresh

    def missing(self, columns: Iterable[U64s]) -> bool:
        """True when one of these ids is neither known nor already known to be untraceable."""
        for ids in columns:
            # Most neighbours are of one cgroup: look at the changes only.
            edges = ids[np.flatnonzero(ids[1:] != ids[:-1]) + 1] if len(ids) > 1 else ids[:0]
            for cgroup_id in {int(ids[0]), *edges.tolist()}:
                if cgroup_id == self._last:
                    continue
                if cgroup_id in self._paths:
                    self._last = cgroup_id
                elif cgroup_id and cgroup_id not in self._unknown:
                    return True
        return False

    def give_up(self, columns: Iterable[U64s]) -> None:
        """Notes the ids a walk did not find, so that they cause no further walk."""
        for ids in columns:
            for cgroup_id in np.unique(ids).tolist():
                if cgroup_id in self._cut:
                    self._paths.setdefault(cgroup_id, self._cut.pop(cgroup_id))
                elif cgroup_id not in self._paths:
                    self._unknown[cgroup_id] = None
        while len(self._unknown) > _MAX_UNKNOWN:
            del self._unknown[next(iter(self._unknown))]

    def expire(self, now_ns: int) -> None:
        """Forgets the cgroups that have been dead for DEAD_KEPT_NS."""
        self._bury([c for c, when in self._dead.items() if when + DEAD_KEPT_NS < now_ns])

    def _bury(self, cgroup_ids: Iterable[int]) -> None:
        for cgroup_id in cgroup_ids:
            del self._dead[cgroup_id]
            self._paths.pop(cgroup_id, None)

    def columns(self, cgroup_ids: U64s) -> dict[str, Column]:
        """Columns of cgroup_events that follow from the ids."""
        unique, inverse = np.unique(cgroup_ids, return_inverse=True)
        paths = [self._paths.get(cgroup_id, "") for cgroup_id in unique.tolist()]
        levels = np.array([_level(path) for path in paths], np.uint32)
        out: dict[str, Column] = {
            "cgroup_event_path": strings.from_list(paths).take(inverse),
            "cgroup_level": levels[inverse],
        }
        labels = [attribution.labels(path) for path in paths]
        for index, name in enumerate(attribution.Labels._fields):
            out[name] = strings.from_list([label[index] for label in labels]).take(inverse)
        return out


_RMDIR: Final = 2


def _level(path: str) -> int:
    return len([part for part in path.split("/") if part])
