"""The process tree of an alert: from the process to its oldest known ancestor."""

import pytest
from limes.control.alerts.tree import LEVELS, ProcessWalk
from limes.control.rules.given import events_of
from limes.control.rules.scratch import Scratch


@pytest.fixture
def scratch():  # type: ignore[no-untyped-def]
    with Scratch() as scratch:
        yield scratch


def tree(scratch: Scratch, entity: int, exec_id: int) -> list[tuple[int, int, str]]:
    """Return (entity, pid, executable) of each node."""
    with scratch.store.cursor() as cursor:
        walk = ProcessWalk(cursor=cursor, host_id="host-1", boot_id="boot-1")
        nodes = walk.tree(entity, exec_id)
    return [(n.process_entity_id, n.process_pid, n.process_executable) for n in nodes]


def image(exec_id: int, parent: int, executable: str, entity: int = 0) -> dict:  # type: ignore[type-arg]
    return {
        "process_execs": {
            "process_exec_id": exec_id,
            "process_entity_id": entity or exec_id * 10,
            "process_parent_exec_id": parent,
            "process_parent_entity_id": parent * 10,
            "process_executable": executable,
        }
    }


def fork(entity: int, exec_id: int, parent: int, pid: int) -> dict:  # type: ignore[type-arg]
    return {
        "process_forks": {
            "process_entity_id": entity,
            "process_exec_id": exec_id,
            "process_parent_entity_id": parent,
            "process_pid": pid,
        }
    }


def test_it_goes_from_image_to_parent_image(scratch: Scratch) -> None:
    """Each node is the image that the parent ran when it forked."""
    scratch.commit(
        events_of([image(1, 0, "/init"), image(2, 1, "/bin/bash"), image(3, 2, "/usr/bin/ssh")])
    )
    assert tree(scratch, 30, 3) == [
        (30, 3, "/usr/bin/ssh"),
        (20, 2, "/bin/bash"),
        (10, 1, "/init"),
    ]


def test_a_fork_that_ran_nothing_shows_its_parents_image(scratch: Scratch) -> None:
    """A worker appears with its own pid above the process that forked it."""
    scratch.commit(
        events_of(
            [
                image(1, 0, "/init"),
                image(2, 1, "/train"),
                fork(77, 2, 20, 707),
                fork(78, 2, 77, 708),
            ]
        )
    )
    assert tree(scratch, 78, 2) == [
        (78, 708, "/train"),
        (77, 707, "/train"),
        (20, 2, "/train"),
        (10, 1, "/init"),
    ]


def test_a_fork_whose_event_is_lost_leads_to_the_image(scratch: Scratch) -> None:
    """The pid is unknown then, the rest is not."""
    scratch.commit(events_of([image(2, 0, "/train")]))
    assert tree(scratch, 99, 2) == [(99, 0, "/train"), (20, 2, "/train")]


def test_without_an_image_the_forks_are_followed(scratch: Scratch) -> None:
    """An image that was never seen is unattributed; what lies above it is not."""
    scratch.commit(events_of([image(1, 0, "/init"), fork(55, 9, 10, 505)]))
    assert tree(scratch, 55, 9) == [(55, 505, "unattributed"), (10, 1, "/init")]


def test_without_an_image_id_the_latest_image_of_the_process_counts(scratch: Scratch) -> None:
    """The same process may have run several."""
    scratch.commit(events_of([image(1, 0, "/bin/sh", 10), image(2, 0, "/usr/bin/env", 10)]))
    assert tree(scratch, 10, 0) == [(10, 2, "/usr/bin/env")]


def test_what_was_never_seen_has_no_tree(scratch: Scratch) -> None:
    """Nor has what is about no process."""
    assert tree(scratch, 5, 6) == []
    assert tree(scratch, 0, 0) == []


def test_a_circle_ends(scratch: Scratch) -> None:
    """Ids that lead back to themselves, and a line without end."""
    scratch.commit(events_of([image(1, 2, "/a"), image(2, 1, "/b")]))
    assert [node[2] for node in tree(scratch, 10, 1)] == ["/a", "/b"]
    scratch.commit(events_of([image(n, n + 1, "/x") for n in range(100, 300)]))
    assert len(tree(scratch, 1000, 100)) == LEVELS


def test_another_host_or_boot_is_another_world(scratch: Scratch) -> None:
    """Ids are of one boot."""
    row = image(2, 0, "/train")
    row["process_execs"] |= {"boot_id": "boot-0"}
    scratch.commit(events_of([row]))
    assert tree(scratch, 20, 2) == []


def test_an_orphan_keeps_who_forked_it(scratch: Scratch) -> None:
    """A shell that ended before its child ran a program is still the parent, not init."""
    scratch.commit(
        events_of(
            [
                image(1, 0, "/init"),
                image(2, 1, "/bin/bash"),
                fork(30, 2, 20, 300),
                image(3, 1, "/usr/bin/ssh"),
            ]
        )
    )
    assert tree(scratch, 30, 3) == [
        (30, 3, "/usr/bin/ssh"),
        (20, 2, "/bin/bash"),
        (10, 1, "/init"),
    ]
