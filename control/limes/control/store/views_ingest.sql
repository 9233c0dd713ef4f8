-- Each cgroup a sensor named, by its id. Empty words become NULL.
CREATE OR REPLACE VIEW hunt.cgroups AS
SELECT
    host_id,
    boot_id,
    cgroup_id,
    cgroup_path,
    cgroup_level, -- depth below the root
    NULLIF(container_id, '') AS container_id,
    NULLIF(container_runtime, '') AS container_runtime,
    NULLIF(kubernetes_pod_uid, '') AS kubernetes_pod_uid,
    NULLIF(slurm_job_id, '') AS slurm_job_id,
    NULLIF(slurm_step_id, '') AS slurm_step_id,
    NULLIF(systemd_unit, '') AS systemd_unit,
    first_seen -- time of the event that named it
FROM main.cgroups;

-- Each start of a sensor: what it is, how far it came.
CREATE OR REPLACE VIEW hunt.sensors AS
SELECT
    s.host_id,
    s.boot_id,
    s.sensor_epoch,
    s.sensor_version,
    s.kernel_release,
    s.abi_version,
    s.first_connected, -- first and latest opening of a stream
    s.last_connected,
    coalesce(b.last_seq, 0) AS last_seq, -- last sequence number committed
    b.last_ingested, -- time of its last commit; NULL when none
    coalesce(l.lost, 0) AS lost -- events lost, all causes
FROM main.sensors AS s
LEFT JOIN (
    SELECT host_id, boot_id, sensor_epoch, max(last_seq) AS last_seq, max(event_ingested) AS last_ingested
    FROM main.batch_log
    GROUP BY ALL
) AS b USING (host_id, boot_id, sensor_epoch)
LEFT JOIN (
    SELECT host_id, boot_id, sensor_epoch, least(sum(loss_count), 18446744073709551615)::UBIGINT AS lost
    FROM main.losses
    GROUP BY ALL
) AS l USING (host_id, boot_id, sensor_epoch);

-- One row a process: its latest image, who forked it, when it was first seen and when it ended.
CREATE OR REPLACE VIEW hunt.processes AS
WITH images AS (
    SELECT
        host_id,
        boot_id,
        process_entity_id,
        max(process_pid) AS process_pid,
        arg_max(process_exec_id, event_boot_time_ns) AS process_exec_id,
        arg_max(process_parent_entity_id, event_boot_time_ns) AS process_parent_entity_id,
        arg_max(process_parent_exec_id, event_boot_time_ns) AS process_parent_exec_id,
        arg_max(process_parent_pid, event_boot_time_ns) AS process_parent_pid,
        arg_max(process_name, event_boot_time_ns) AS process_name,
        arg_max(process_executable, event_boot_time_ns) AS process_executable,
        arg_max(process_args, event_boot_time_ns) AS process_args,
        arg_max(user_id, event_boot_time_ns) AS user_id,
        arg_max(cgroup_id, event_boot_time_ns) AS cgroup_id,
        count(*) AS process_execs,
        min(event_time) AS first_seen
    FROM main.process_execs
    WHERE process_entity_id <> 0
    GROUP BY ALL
),

endings AS (
    SELECT
        host_id,
        boot_id,
        process_entity_id,
        max(event_time) AS process_end,
        max(process_exit_code) AS process_exit_code,
        max(process_exit_signal) AS process_exit_signal
    FROM main.process_exits
    WHERE process_entity_id <> 0
    GROUP BY ALL
)

SELECT
    i.host_id,
    i.boot_id,
    i.process_entity_id,
    i.process_pid,
    NULLIF(i.process_exec_id, 0) AS process_exec_id, -- its latest image
    NULLIF(i.process_parent_entity_id, 0) AS process_parent_entity_id,
    NULLIF(i.process_parent_exec_id, 0) AS process_parent_exec_id,
    i.process_parent_pid,
    i.process_name,
    i.process_executable,
    replace(rtrim(i.process_args, chr(0)), chr(0), ' ') AS process_command_line,
    i.user_id,
    NULLIF(i.cgroup_id, 0) AS cgroup_id,
    coalesce(g.cgroup_path, 'unattributed') AS cgroup_path,
    i.process_execs, -- images it ran, as far as seen
    i.first_seen,
    e.process_end, -- NULL while it runs
    e.process_exit_code,
    e.process_exit_signal
FROM images AS i
LEFT JOIN endings AS e USING (host_id, boot_id, process_entity_id)
LEFT JOIN main.cgroups AS g USING (host_id, boot_id, cgroup_id);
