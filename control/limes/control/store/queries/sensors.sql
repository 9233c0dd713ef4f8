-- Every start of a sensor, with the events lost of it, the latest to connect first.
SELECT
    s.host_id,
    s.boot_id,
    s.sensor_epoch,
    s.last_connected,
    coalesce(l.lost, 0) AS lost
FROM sensors AS s
LEFT JOIN (
    SELECT host_id, boot_id, sensor_epoch, least(sum(loss_count), 18446744073709551615)::UBIGINT AS lost
    FROM losses
    GROUP BY ALL
) AS l USING (host_id, boot_id, sensor_epoch)
ORDER BY s.last_connected DESC, s.host_id, s.sensor_epoch DESC;
