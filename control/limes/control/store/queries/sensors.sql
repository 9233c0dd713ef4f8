-- Every start of a sensor, newest first.
SELECT
    host_id,
    boot_id,
    sensor_epoch,
    last_seq,
    coalesce(last_ingested, last_connected) AS last_seen,
    lost
FROM hunt.sensors
ORDER BY last_seen DESC, host_id, sensor_epoch DESC;
