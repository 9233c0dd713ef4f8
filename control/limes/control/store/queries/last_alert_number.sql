-- Number of the last alert.
SELECT coalesce(max(number), 0)
FROM alerts;
