-- How many rows are held back, the oldest commit they are of, and when the first one's time is up.
SELECT count(*), min(ingest_id), min(deadline)
FROM held_{kind};
