"""Arrow IPC streams: what other readers find in them."""

from typing import Any

import nanoarrow
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from limes.sensor import arrow, decode, strings
from limes.v1 import schema

ARROW = {
    "u8": pa.uint8(),
    "u16": pa.uint16(),
    "u32": pa.uint32(),
    "u64": pa.uint64(),
    "i32": pa.int32(),
    "i64": pa.int64(),
    "f64": pa.float64(),
    "bool": pa.bool_(),
    "string": pa.string(),
    "time": pa.timestamp("us"),
}


def random_columns(kind: str, count: int, rng: np.random.Generator) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for column in schema.KINDS[kind].columns:
        if column.type == "string":
            texts = ["".join(rng.choice(list("aé/ \0"), rng.integers(0, 40))) for _ in range(count)]
            columns[column.name] = strings.from_list(texts)
        elif column.type == "bool":
            columns[column.name] = rng.integers(0, 2, count).astype(np.bool_)
        else:
            columns[column.name] = rng.integers(0, 120, count).astype(
                arrow.NUMPY_TYPES[column.type]
            )
    return columns


def expected(kind: str, columns: Any, count: int) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = [{} for _ in range(count)]
    for column in schema.KINDS[kind].columns:
        values = columns[column.name]
        for row in range(count):
            if column.type == "string":
                out[row][column.name] = values.row(row).decode()
            else:
                out[row][column.name] = values[row].item()
    return out


@pytest.mark.parametrize("kind", schema.KINDS)
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 1000])
def test_pyarrow_reads_back_what_was_encoded(kind: str, count: int) -> None:
    """Schema, order, types, non-null, values: for every kind and odd sizes."""
    columns = random_columns(kind, count, np.random.default_rng(count))
    stream = arrow.Encoder(schema.KINDS[kind]).encode(count, columns)
    table = pa.ipc.open_stream(stream).read_all()
    table.validate(full=True)
    assert table.schema == pa.schema(
        [
            pa.field(column.name, ARROW[column.type], nullable=False)
            for column in schema.KINDS[kind].columns
        ]
    )
    times = {column.name for column in schema.KINDS[kind].columns if column.type == "time"}
    for name in times:
        table = table.set_column(
            table.schema.get_field_index(name), name, table.column(name).cast(pa.int64())
        )
    assert table.to_pylist() == expected(kind, columns, count)


def test_nanoarrow_reads_it_too() -> None:
    """A second, independent reader agrees on the number of rows."""
    columns = decode.rows("losses", 3, {"loss_cause": strings.constant("spool_full", 3)})
    stream = arrow.Encoder(schema.KINDS["losses"]).encode(3, columns)
    assert len(nanoarrow.ArrayStream.from_readable(stream).read_all()) == 3


def test_one_encoder_writes_batches_of_any_size_one_after_another() -> None:
    """Nothing of a batch stays in the template."""
    encoder = arrow.Encoder(schema.KINDS["losses"])
    for count in (5, 0, 100, 1):
        stream = encoder.encode(count, decode.rows("losses", count, {}))
        assert pa.ipc.open_stream(stream).read_all().num_rows == count


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("loss_count", np.zeros(2, np.uint64)),
        ("loss_count", np.zeros(3, np.uint32)),
        ("loss_cause", strings.constant("x", 2)),
    ],
)
def test_column_of_another_length_or_width_is_refused(name: str, value: Any) -> None:
    """A wrong buffer would be read as something else."""
    columns = decode.rows("losses", 3, {})
    columns[name] = value
    with pytest.raises(ValueError, match=f"column {name} "):
        arrow.Encoder(schema.KINDS["losses"]).encode(3, columns)


def test_missing_column_is_refused() -> None:
    """No column is ever left out."""
    columns = decode.rows("losses", 1, {})
    del columns["loss_count"]
    with pytest.raises(KeyError, match="loss_count"):
        arrow.Encoder(schema.KINDS["losses"]).encode(1, columns)


@given(st.integers(0, 40), st.integers(0, 2**32 - 1))
def test_bools_are_packed_as_arrow_does(count: int, bits: int) -> None:
    """Bit i of the byte, lowest first."""
    flags = np.array([bool(bits >> index % 32 & 1) for index in range(count)], np.bool_)
    columns = decode.rows("gpu_events", count, {"gpu_device_simulated": flags})
    stream = arrow.Encoder(schema.KINDS["gpu_events"]).encode(count, columns)
    table = pa.ipc.open_stream(stream).read_all()
    assert table.column("gpu_device_simulated").to_pylist() == flags.tolist()
