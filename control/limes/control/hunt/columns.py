"""Turns what DuckDB hands out into plain Arrow columns that any reader understands, exactly.

Integers of 128 bits become decimal256(39, 0); a type without an Arrow form is refused, not guessed.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc  # here, because the sealed process can load nothing more
from limes.control.errors import HuntError

WIDE_INTEGER: Final = pa.decimal256(39, 0)
WIDE_NAMES: Final = frozenset({"hugeint", "uhugeint"})


def plain_type(kind: pa.DataType, column: str) -> pa.DataType:
    """Return the type in which a column of type `kind` is sent. Raises HuntError for none."""
    if isinstance(kind, pa.BaseExtensionType):
        return plain_extension(kind, column)
    if pa.types.is_map(kind):
        return pa.map_(plain_type(kind.key_type, column), plain_type(kind.item_type, column))
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.list_(plain_type(kind.value_type, column))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(f.name, plain_type(f.type, column)) for f in kind])
    return kind


def plain_extension(kind: pa.BaseExtensionType, column: str) -> pa.DataType:
    if isinstance(kind, pa.Bool8Type):
        return pa.bool_()
    if isinstance(kind, pa.UuidType | pa.JsonType):
        return pa.string()
    if isinstance(kind, pa.OpaqueType) and kind.type_name in WIDE_NAMES:
        return WIDE_INTEGER
    name = kind.type_name if isinstance(kind, pa.OpaqueType) else kind.extension_name
    raise HuntError(
        f'Column "{column}" has type {name.upper()}, which cannot be sent: cast it to VARCHAR.'
    )


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema in which rows of `schema` are sent, each name once. Raises HuntError."""
    names = unique(schema.names)
    return pa.schema(
        [pa.field(n, plain_type(f.type, n)) for n, f in zip(names, schema, strict=True)]
    )


def unique(names: Sequence[str]) -> list[str]:
    """Return the names with a number behind those that were there before, as DuckDB's tables do."""
    found: list[str] = []
    for name in names:
        number, candidate = 0, name
        while candidate in found:
            number += 1
            candidate = f"{name}_{number}"
        found.append(candidate)
    return found


def plain_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return `batch` in `schema`, which plain_schema made of its own."""
    arrays = [plain(array, field.type) for array, field in zip(batch.columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def plain(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    kind = array.type
    if kind == wanted:
        return array
    if isinstance(kind, pa.BaseExtensionType):
        return plain_storage(array, wanted)
    if pa.types.is_struct(kind):
        parts = [plain(array.field(i), wanted.field(i).type) for i in range(kind.num_fields)]
        return pa.StructArray.from_arrays(parts, fields=list(wanted), mask=array.is_null())
    return plain_list(array, wanted)


def plain_storage(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    kind = array.type
    if isinstance(kind, pa.OpaqueType):
        return widened(array.storage, signed=kind.type_name == "hugeint")
    if isinstance(kind, pa.UuidType):
        return pa.array([None if v is None else str(v) for v in array.to_pylist()], wanted)
    return array.storage.cast(wanted)


def plain_list(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    """Rebuild a list, fixed list or map around its converted values."""
    kind = array.type
    if pa.types.is_fixed_size_list(kind):
        array = array.cast(pa.list_(kind.value_type))
    start, nulls = array.offsets[0].as_py(), array.is_null()
    offsets = pc.subtract(array.offsets, start)
    length = array.offsets[-1].as_py() - start
    if pa.types.is_map(kind):
        keys = plain(array.keys.slice(start, length), wanted.key_type)
        items = plain(array.items.slice(start, length), wanted.item_type)
        return pa.MapArray.from_arrays(offsets, keys, items, type=wanted, mask=nulls)
    values = plain(array.values.slice(start, length), wanted.value_type)
    return pa.ListArray.from_arrays(offsets, values, type=wanted, mask=nulls)


def widened(storage: pa.FixedSizeBinaryArray, *, signed: bool) -> pa.Array:
    """Extend 16 little-endian bytes to the 32 of a decimal256."""
    count = len(storage)
    narrow = np.frombuffer(storage.buffers()[1], np.uint8)[storage.offset * 16 :][: count * 16]
    wide = np.zeros((count, 32), np.uint8)
    wide[:, :16] = narrow.reshape(count, 16)
    if signed:
        wide[wide[:, 15] >= 0x80, 16:] = 0xFF
    array = pa.Array.from_buffers(WIDE_INTEGER, count, [None, pa.py_buffer(wide)])
    return pc.if_else(storage.is_valid(), array, pa.scalar(None, WIDE_INTEGER))
