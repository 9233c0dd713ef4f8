-- Takes the rows that are held back out of the rows at work.
DELETE FROM new_{kind} AS n
WHERE (n.host_id, n.boot_id, n.sensor_epoch, n.event_seq) IN (
    SELECT (b.host_id, b.boot_id, b.sensor_epoch, b.event_seq)
    FROM held_{kind} AS b
);
