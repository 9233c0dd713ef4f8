-- Number of the last signal.
SELECT coalesce(max(number), 0)
FROM signals;
