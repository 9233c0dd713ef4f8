-- The record of migrations.
CREATE TABLE IF NOT EXISTS schema_migrations (
    name VARCHAR NOT NULL,
    checksum VARCHAR NOT NULL,
    applied_at TIMESTAMP NOT NULL
);
