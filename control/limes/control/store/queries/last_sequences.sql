-- Last committed sequence number of every start of every sensor.
SELECT host_id, boot_id, sensor_epoch, max(last_seq)
FROM batch_log
GROUP BY ALL;
