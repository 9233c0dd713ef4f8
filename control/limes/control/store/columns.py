"""The Arrow types of the registry's columns: what sensors send is what the tables hold.

One schema a kind, from the generated registry alone.
"""

from functools import cache
from typing import Final

import pyarrow as pa
from limes.v1 import schema

TYPES: Final = {
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
KINDS_BY_NUMBER: Final = {kind.number: name for name, kind in schema.KINDS.items()}


@cache
def arrow_schema(kind: str) -> pa.Schema:
    """Return the Arrow schema of a batch of `kind`: the registry's columns in their order."""
    return pa.schema([(column.name, TYPES[column.type]) for column in schema.KINDS[kind].columns])
