"""Keeps what the ids in events stand for: cgroups and program images, one row an id.

The first row that names an id stays: what a sensor sends later changes nothing.
"""

from collections.abc import Mapping
from typing import Final

import duckdb
import pyarrow as pa
from limes.control.store import query

NAMING: Final = {"cgroup_events": "insert_cgroups", "process_execs": "insert_images"}


def keep(connection: duckdb.DuckDBPyConnection, tables: Mapping[str, pa.Table]) -> None:
    """Take the ids that the rows of a commit, by kind, name for the first time."""
    for kind, insert in NAMING.items():
        if kind in tables:
            connection.register(f"new_{kind}", tables[kind])
            connection.execute(query.text(insert))
            connection.unregister(f"new_{kind}")
