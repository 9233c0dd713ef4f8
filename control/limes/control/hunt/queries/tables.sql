-- The tables of the store that a snapshot copies.
SELECT table_name
FROM duckdb_tables()
WHERE schema_name = 'main'
    AND NOT internal
    AND NOT temporary
    AND table_name <> 'schema_migrations'
ORDER BY table_name;
