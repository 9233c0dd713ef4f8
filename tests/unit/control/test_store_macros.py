"""The address macros, against Python's ipaddress."""

import ipaddress
import random
from collections.abc import Iterator

import duckdb
import pyarrow as pa
import pytest
from limes.control.store.connection import open_store

MAPPED = 0xFFFF << 32


@pytest.fixture
def cursor() -> Iterator[duckdb.DuckDBPyConnection]:
    store = open_store(None)
    with store.cursor() as found:
        yield found
    store.close()


def answers(cursor: duckdb.DuckDBPyConnection, values: list[int]) -> list[tuple[str, int]]:
    halves = {
        "hi": pa.array([value >> 64 for value in values], pa.uint64()),
        "lo": pa.array([value & (1 << 64) - 1 for value in values], pa.uint64()),
    }
    cursor.register("addresses", pa.table(halves))
    found = cursor.execute("SELECT ip_text(hi, lo), ip_value(hi, lo) FROM addresses").fetchall()
    return [(text, int(value)) for text, value in found]


def test_ipv4_is_a_dotted_quad(cursor: duckdb.DuckDBPyConnection) -> None:
    """An IPv4-mapped address is shown as people write IPv4."""
    words = ["0.0.0.0", "127.0.0.1", "203.0.113.9", "255.255.255.255", "10.0.0.1"]
    values = [MAPPED | int(ipaddress.IPv4Address(word)) for word in words]
    assert answers(cursor, values) == list(zip(words, values, strict=True))


@pytest.mark.parametrize(
    "text",
    [
        "::",
        "::1",
        "1::",
        "2001:db8::1",
        "2001:db8:0:1:1:1:1:1",  # a single zero group is not shortened
        "2001:db8::1:0:0:1",  # the first of two equal runs is
        "1:0:0:2::3",  # the longer run is
        "fe80::1:2:3:4",
        "::ffff:0:0:1",
        "::1.2.3.4",
    ],
)
def test_ipv6_is_canonical(cursor: duckdb.DuckDBPyConnection, text: str) -> None:
    """IPv6 is written as RFC 5952 says."""
    address = ipaddress.IPv6Address(text)
    assert answers(cursor, [int(address)]) == [(str(address), int(address))]


def test_thousands_of_random_addresses_agree_with_python(
    cursor: duckdb.DuckDBPyConnection,
) -> None:
    """Zero groups are made likely: where the runs lie is what goes wrong."""
    chance = random.Random(20260301)
    values = []
    for _ in range(5_000):
        groups = [
            chance.choice((0, 0, chance.getrandbits(4), chance.getrandbits(16))) for _ in range(8)
        ]
        values.append(int.from_bytes(b"".join(group.to_bytes(2, "big") for group in groups)))
        values.append(MAPPED | chance.getrandbits(32))
    addresses = [ipaddress.IPv6Address(value) for value in values]
    expected = [(str(each.ipv4_mapped or each), int(each)) for each in addresses]
    assert answers(cursor, values) == expected
