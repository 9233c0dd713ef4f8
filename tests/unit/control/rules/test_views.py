"""The views that rules have beside those of the registry: they say the same in other words."""

from limes.control.rules.given import Event, events_of
from limes.control.rules.scratch import Scratch
from limes.v1 import schema


def columns(scratch: Scratch, view: str) -> list[str]:
    with scratch.store.cursor() as cursor:
        return [row[0] for row in cursor.execute(f"DESCRIBE hunt.{view}").fetchall()]


def same(scratch: Scratch, narrow: str, full: str, events: tuple[Event, ...]) -> None:
    """Demand that each row of the narrow view is that of the full one, ids apart."""
    names = columns(scratch, narrow)
    assert set(names) <= set(columns(scratch, full))
    numbers = [n for n in names if n.endswith("_id") and n not in ("host_id", "boot_id")]
    listed = ", ".join(f"coalesce({n}, 0)" if n in numbers else n for n in names)
    with scratch.store.cursor() as cursor:
        order = "ORDER BY event_seq"
        left = cursor.execute(f"SELECT {listed} FROM hunt.{narrow} {order}").fetchall()
        right = cursor.execute(f"SELECT {listed} FROM hunt.{full} {order}").fetchall()
    assert left == right
    assert len(left) == len(events)


def test_bare_connections_are_the_connections() -> None:
    """Every action, both transports, absent ids and results."""
    actions = schema.KINDS["connections"].actions
    rows = [
        {"connections": {"event_action": action, "network_transport": transport, **ids}}
        for action in actions
        for transport in ("tcp", "udp")
        for ids in (
            {"process_exec_id": 7, "destination_ip": "10.0.0.1", "connection_error": 111},
            {},
        )
    ]
    events = events_of(rows)
    with Scratch() as scratch:
        scratch.commit(events)
        same(scratch, "bare_connections", "connections", events)


def test_bare_images_are_the_execs() -> None:
    """With and without a parent."""
    rows: list[dict[str, dict[str, object]]] = [
        {"process_execs": {"process_exec_id": 7, "process_executable": "/a", "user_id": 3}},
        {"process_execs": {"process_exec_id": 8, "process_parent_exec_id": 7}},
    ]
    events = events_of(rows)
    with Scratch() as scratch:
        scratch.commit(events)
        same(scratch, "bare_images", "process_execs", events)


def test_an_address_given_as_one_number_is_written_as_text() -> None:
    """As the full view writes it."""
    addresses = ["203.0.113.9", "2001:db8::1", "::1", "0.0.0.0", "ffff::"]
    with Scratch() as scratch:
        scratch.commit(events_of([{"connections": {"destination_ip": a}} for a in addresses]))
        with scratch.store.cursor() as cursor:
            cursor.execute(
                "SELECT ip_value_text(b.destination_ip_value), c.destination_ip"
                " FROM hunt.bare_connections AS b JOIN hunt.connections AS c USING (event_seq)"
                " ORDER BY event_seq"
            )
            rows = cursor.fetchall()
    assert rows == [(address, address) for address in addresses]
