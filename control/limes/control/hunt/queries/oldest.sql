-- Rows and oldest event of one kind.
SELECT
    count(*) AS rows,
    min(event_time) AS oldest_event_time
FROM query_table($kind);
