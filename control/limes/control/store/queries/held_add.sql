-- Holds back, with those that wait already, the rows whose image or cgroup is not known yet.
INSERT INTO held_{kind}
SELECT
    n.ingest_id,
    n.host_id,
    n.boot_id,
    n.sensor_epoch,
    n.event_seq,
    $1 AS deadline
FROM new_{kind} AS n
ANTI JOIN held_{kind} AS b USING (ingest_id, host_id, boot_id, sensor_epoch, event_seq)
WHERE (n.process_exec_id IS NOT NULL AND n.process_executable = 'unattributed')
    OR (n.cgroup_id IS NOT NULL AND n.cgroup_path = 'unattributed');
