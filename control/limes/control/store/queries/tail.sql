-- Rows of one view that a range of commits stored.
SELECT *
FROM query_table($1)
WHERE ingest_id BETWEEN $2 AND $3
ORDER BY sensor_epoch, event_seq
LIMIT $4;
