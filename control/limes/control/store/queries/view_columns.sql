-- The columns of the views that rules and hunts read.
SELECT table_name, column_name
FROM duckdb_columns()
WHERE schema_name = 'hunt';
