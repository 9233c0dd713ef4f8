-- Says, for each sensor that rows of a kind wait of, that rules stepped over them.
INSERT INTO losses BY NAME
SELECT
    b.ingest_id,
    min(e.event_ingested) AS event_ingested,
    b.host_id,
    b.boot_id,
    b.sensor_epoch,
    min(b.event_seq) AS event_seq,
    min(e.event_ingested) AS event_time,
    0 AS event_boot_time_ns,
    0 AS cgroup_id,
    0 AS process_entity_id,
    0 AS process_exec_id,
    0 AS process_pid,
    $1 AS event_action,
    'rules' AS loss_stage,
    $2 AS loss_cause,
    count(*) AS loss_count,
    min(b.event_seq) AS loss_first_seq,
    max(b.event_seq) AS loss_last_seq
FROM held_{kind} AS b
INNER JOIN (
    SELECT DISTINCT ingest_id, event_ingested
    FROM batch_log
) AS e USING (ingest_id)
GROUP BY b.ingest_id, b.host_id, b.boot_id, b.sensor_epoch;
