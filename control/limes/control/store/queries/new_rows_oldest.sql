-- When the oldest row at work happened; NULL when there is none.
SELECT min(event_time)
FROM new_{kind};
