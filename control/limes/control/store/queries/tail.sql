-- Rows of one view that a range of commits stored. Addresses go as text: Arrow has no 128-bit integer.
SELECT COLUMNS(c -> NOT ends_with(c, '_ip_value'))
FROM query_table($1)
WHERE ingest_id BETWEEN $2 AND $3
ORDER BY sensor_epoch, event_seq
LIMIT $4;
