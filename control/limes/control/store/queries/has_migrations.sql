-- A row when the database keeps a record of migrations.
SELECT 1
FROM duckdb_tables()
WHERE schema_name = 'main' AND table_name = 'schema_migrations';
