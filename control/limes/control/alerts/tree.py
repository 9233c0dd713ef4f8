"""Owns the walk from a process up to its oldest known ancestor.

Invariant: it ends, even when the ids form a circle, and names only what the store has.
"""

from dataclasses import dataclass
from typing import Final

import duckdb
from limes.control.alerts.model import ProcessNode
from limes.control.store import query

LEVELS: Final = 64
UNKNOWN: Final = "unattributed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A row of process_execs."""

    entity: int
    exec_id: int
    pid: int
    executable: str
    command_line: str
    parent_entity: int
    parent_exec_id: int
    parent_pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """A row of process_forks."""

    pid: int
    exec_id: int
    parent_entity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessWalk:
    """Reads ancestry of one host and boot."""

    cursor: duckdb.DuckDBPyConnection
    host_id: str
    boot_id: str

    def tree(self, entity: int, exec_id: int) -> tuple[ProcessNode, ...]:
        """Return the process and its ancestors, as far as they were seen; empty for (0, 0)."""
        nodes: list[ProcessNode] = []
        seen: set[tuple[int, int]] = set()
        while (entity or exec_id) and (entity, exec_id) not in seen and len(nodes) < LEVELS:
            seen.add((entity, exec_id))
            node, entity, exec_id = self._step(entity, exec_id)
            if node is None:
                break
            nodes.append(node)
        return tuple(nodes)

    def _step(self, entity: int, exec_id: int) -> tuple[ProcessNode | None, int, int]:
        """Return the node of a process, and its parent's ids."""
        image = self._image(exec_id) if exec_id else self._latest_image(entity)
        if image is not None and entity in (0, image.entity):
            node = _node(image.entity, image.pid, image)
            fork = self._fork(image.entity)
            if fork is not None and fork.parent_entity:
                # Who forked it; at its exec its parent may have ended, and init have adopted it.
                return node, fork.parent_entity, fork.exec_id
            return node, image.parent_entity, image.parent_exec_id
        fork = self._fork(entity)
        if fork is not None:
            # It never ran a program of its own: it shows the image that its parent ran.
            return _node(entity, fork.pid, image), fork.parent_entity, image.exec_id if image else 0
        if image is not None:
            return _node(entity, 0, image), image.entity, exec_id
        return None, 0, 0

    def _image(self, exec_id: int) -> Image | None:
        return self._read_image("process_image", exec_id)

    def _latest_image(self, entity: int) -> Image | None:
        return self._read_image("process_latest_image", entity)

    def _read_image(self, statement: str, key: int) -> Image | None:
        self.cursor.execute(query.text(statement), [self.host_id, self.boot_id, key])
        row = self.cursor.fetchone()
        if row is None:
            return None
        names = ("entity", "exec_id", "pid", "executable", "command_line")
        parents = ("parent_entity", "parent_exec_id", "parent_pid")
        return Image(**dict(zip((*names, *parents), row, strict=True)))

    def _fork(self, entity: int) -> Fork | None:
        self.cursor.execute(query.text("process_fork"), [self.host_id, self.boot_id, entity])
        row = self.cursor.fetchone()
        return None if row is None else Fork(pid=row[0], exec_id=row[1], parent_entity=row[2])


def _node(entity: int, pid: int, image: Image | None) -> ProcessNode:
    return ProcessNode(
        process_entity_id=entity,
        process_exec_id=image.exec_id if image else 0,
        process_pid=pid,
        process_executable=image.executable if image else UNKNOWN,
        process_command_line=image.command_line if image else "",
    )
