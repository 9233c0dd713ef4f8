-- The rows of a kind that are held back.
CREATE OR REPLACE TEMP TABLE held_{kind} (
    ingest_id UBIGINT,
    host_id VARCHAR,
    boot_id VARCHAR,
    sensor_epoch UBIGINT,
    event_seq UBIGINT,
    deadline DOUBLE
);
