-- Takes the cgroups that a commit's events name for the first time.
INSERT INTO cgroups
SELECT
    host_id,
    boot_id,
    cgroup_id,
    cgroup_event_path,
    cgroup_level,
    container_id,
    container_runtime,
    kubernetes_pod_uid,
    slurm_job_id,
    slurm_step_id,
    systemd_unit,
    event_time
FROM new_cgroup_events
WHERE cgroup_id <> 0 AND cgroup_event_path <> ''
ON CONFLICT DO NOTHING;
