-- Holds back the rows whose image or cgroup is not known yet, until it is or their time is up.
CREATE OR REPLACE TEMP TABLE held_{kind} AS
SELECT
    n.ingest_id,
    n.host_id,
    n.boot_id,
    n.sensor_epoch,
    n.event_seq,
    coalesce(b.deadline, $2) AS deadline
FROM new_{kind} AS n
LEFT JOIN held_{kind} AS b USING (ingest_id, host_id, boot_id, sensor_epoch, event_seq)
WHERE coalesce(b.deadline, $2) > $1
    AND (
        (n.process_exec_id IS NOT NULL AND n.process_executable = 'unattributed')
        OR (n.cgroup_id IS NOT NULL AND n.cgroup_path = 'unattributed')
    );
