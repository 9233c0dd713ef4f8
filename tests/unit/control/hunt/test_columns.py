"""Columns as DuckDB hands them out become plain Arrow, exactly or not at all."""

from decimal import Decimal

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from limes.control.errors import HuntError
from limes.control.hunt.columns import plain_batch, plain_schema, unique


def sent(sql: str) -> pa.Table:
    """Return the answer of a statement in the form in which a worker sends it."""
    with duckdb.connect(config={"arrow_lossless_conversion": True}) as connection:
        reader = connection.execute(sql).to_arrow_reader(2048)
        schema = plain_schema(reader.schema)
        return pa.Table.from_batches([plain_batch(b, schema) for b in reader], schema)


@pytest.mark.parametrize(
    "value", [0, 1, -1, 2**63, 10**38, 2**127 - 1, -(2**127), -(10**30)], ids=str
)
def test_wide_integer_arrives_exactly(value: int) -> None:
    """A signed integer of 128 bits keeps its value."""
    assert sent(f"SELECT ({value})::HUGEINT AS v").to_pylist() == [{"v": Decimal(value)}]


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.integers(0, 2**128 - 1)), min_size=1, max_size=20))
def test_wide_unsigned_integers_arrive_exactly(values: list[int | None]) -> None:
    """Unsigned integers up to 2^128 - 1 keep their values, and NULL stays NULL."""
    rows = ", ".join("(NULL)" if v is None else f"('{v}'::UHUGEINT)" for v in values)
    found = sent(f"SELECT v::UHUGEINT AS v FROM (VALUES {rows}) AS t(v)").column("v").to_pylist()
    assert found == [None if v is None else Decimal(v) for v in values]


def test_slice_of_wide_integers_is_that_slice() -> None:
    """Rows that do not start at the beginning of their buffer are not confused with its start."""
    with duckdb.connect(config={"arrow_lossless_conversion": True}) as connection:
        reader = connection.execute("SELECT i::HUGEINT AS v FROM range(10) r(i)").to_arrow_reader(
            64
        )
        schema = plain_schema(reader.schema)
        part = plain_batch(next(iter(reader)).slice(4, 3), schema)
    assert part.column("v").to_pylist() == [4, 5, 6]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT [1::HUGEINT, NULL, -3] AS v", [1, None, -3]),
        ("SELECT [[1::UHUGEINT], NULL, []] AS v", [[1], None, []]),
        ("SELECT {'a': 1::HUGEINT, 'b': 'x'} AS v", {"a": 1, "b": "x"}),
        ("SELECT MAP {'k': 2::HUGEINT} AS v", [("k", 2)]),
        ("SELECT [1::HUGEINT, 2]::HUGEINT[2] AS v", [1, 2]),
        ("SELECT [{'a': [true, false]}] AS v", [{"a": [True, False]}]),
        ("SELECT NULL::HUGEINT[] AS v", None),
        ("SELECT true AS v", True),
        ("SELECT '[1]'::JSON AS v", "[1]"),
        (
            "SELECT '5f0c3a52-0000-4000-8000-000000000001'::UUID AS v",
            "5f0c3a52-0000-4000-8000-000000000001",
        ),
        ("SELECT 'a'::ENUM('a', 'b') AS v", "a"),
        ("SELECT 1.50::DECIMAL(9, 2) AS v", Decimal("1.50")),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_nested_and_special_values_arrive_plain(sql: str, expected: object) -> None:
    """Lists, structs, maps, JSON and UUIDs arrive as types that any Arrow reader knows."""
    table = sent(sql)
    assert table.column("v").to_pylist() == [expected]
    assert "extension" not in str(table.schema)


def test_rows_of_a_nested_column_keep_their_place() -> None:
    """A list column with NULLs and empty lists in the middle keeps every row's own values."""
    table = sent(
        "SELECT CASE i % 3 WHEN 0 THEN NULL WHEN 1 THEN [] ELSE [i::HUGEINT] END AS v "
        "FROM range(9) AS r(i)"
    )
    assert table.column("v").to_pylist() == [None, [], [2], None, [], [5], None, [], [8]]


@pytest.mark.parametrize(("kind", "name"), [("'101'::BIT", "BIT"), ("1::BIGNUM", "BIGNUM")])
def test_type_without_a_form_is_refused_by_name(kind: str, name: str) -> None:
    """A column that Arrow has no form for is refused with the column, its type and the way out."""
    with pytest.raises(HuntError, match=rf'"flags" has type {name}.*cast it to VARCHAR'):
        sent(f"SELECT {kind} AS flags")


def test_names_are_made_unique() -> None:
    """Columns of one name stay apart, as in a table made of them."""
    assert unique(["a", "b", "a", "a", "a_1"]) == ["a", "b", "a_1", "a_2", "a_1_1"]
    assert sent("SELECT 1 AS a, 2 AS a").to_pylist() == [{"a": 1, "a_1": 2}]
