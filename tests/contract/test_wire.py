"""What a sensor encodes is what the control plane decodes: every kind, column and value."""

import numpy as np
import pytest
import zstandard
from limes.control.ingest.decode import decode
from limes.sensor import strings
from limes.sensor.arrow import NUMPY_TYPES, Column, Encoder
from limes.v1 import schema

ROWS = 37


def columns(kind: schema.Kind, first_seq: int) -> dict[str, Column]:
    """Return values that differ by row and reach the bounds of their types."""
    made: dict[str, Column] = {}
    for column in kind.columns:
        if column.name == "event_seq":
            made[column.name] = np.arange(first_seq, first_seq + ROWS, dtype="<u8")
        elif column.type == "string":
            made[column.name] = strings.from_list(["é" * row for row in range(ROWS)])
        elif column.type == "bool":
            made[column.name] = np.arange(ROWS) % 3 == 0
        elif column.type == "time":
            made[column.name] = np.arange(ROWS, dtype="<i8") + 1_772_323_200_000_000
        else:
            values = np.arange(ROWS, dtype=NUMPY_TYPES[column.type])
            values[-1] = np.iinfo(values.dtype).max
            made[column.name] = values
    return made


@pytest.mark.parametrize("name", schema.KINDS)
def test_a_sensors_batch_is_read_back_as_it_was(name: str) -> None:
    """Two encoders of one registry: neither may drift."""
    kind = schema.KINDS[name]
    sent = columns(kind, 5)
    payload = zstandard.compress(Encoder(kind).encode(ROWS, sent))
    found, table = decode(kind.number, 5, ROWS, payload)
    assert found == name
    assert table.column_names == [column.name for column in kind.columns]
    for column in kind.columns:
        read = table.column(column.name)
        if column.type == "string":
            expected = ["é" * row for row in range(ROWS)]
        elif column.type == "time":
            read, expected = read.cast("int64"), np.asarray(sent[column.name]).tolist()
        else:
            expected = np.asarray(sent[column.name]).tolist()
        assert read.to_pylist() == expected, column.name
