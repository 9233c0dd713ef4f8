-- Where every start of every sensor has come, and when.
SELECT host_id, boot_id, sensor_epoch, max(last_seq), max(event_ingested)
FROM batch_log
GROUP BY ALL;
