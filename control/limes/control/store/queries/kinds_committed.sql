-- Numbers of the kinds that a range of commits stored rows of.
SELECT DISTINCT event_kind, batch_outcome
FROM batch_log
WHERE ingest_id > $1 AND ingest_id <= $2;
