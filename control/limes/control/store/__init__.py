"""The store: the one DuckDB file, its schema, its writer and the feed of commits.

Only `connection.py` opens DuckDB (a hunt's worker opens snapshots in its own module).
"""
