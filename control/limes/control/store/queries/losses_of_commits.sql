-- Says once, for each sensor that a range of commits is of, that rules stepped over its events.
INSERT INTO losses BY NAME
SELECT
    b.ingest_id,
    b.event_ingested,
    b.host_id,
    b.boot_id,
    b.sensor_epoch,
    min(b.first_seq) AS event_seq,
    b.event_ingested AS event_time,
    0 AS event_boot_time_ns,
    0 AS cgroup_id,
    0 AS process_entity_id,
    0 AS process_exec_id,
    0 AS process_pid,
    $3 AS event_action,
    'rules' AS loss_stage,
    $4 AS loss_cause,
    sum(b.last_seq - b.first_seq + 1) AS loss_count,
    min(b.first_seq) AS loss_first_seq,
    max(b.last_seq) AS loss_last_seq
FROM batch_log AS b
WHERE b.ingest_id > $1
    AND b.ingest_id <= $2
    AND b.batch_outcome = 'stored'
    AND NOT EXISTS (
        SELECT 1
        FROM losses AS l
        WHERE l.ingest_id = b.ingest_id
            AND l.host_id = b.host_id
            AND l.boot_id = b.boot_id
            AND l.sensor_epoch = b.sensor_epoch
            AND l.loss_stage = 'rules'
    )
GROUP BY b.ingest_id, b.event_ingested, b.host_id, b.boot_id, b.sensor_epoch;
