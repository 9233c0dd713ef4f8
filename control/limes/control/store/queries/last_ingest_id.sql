-- Number of the last commit that stored something.
SELECT coalesce(max(ingest_id), 0)
FROM batch_log;
