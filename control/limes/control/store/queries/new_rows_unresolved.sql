-- When the oldest row at work happened, and how many have an image or a cgroup not known yet.
SELECT
    min(event_time),
    count(*) FILTER (
        (process_exec_id IS NOT NULL AND process_executable = 'unattributed')
        OR (cgroup_id IS NOT NULL AND cgroup_path = 'unattributed')
    )
FROM new_{kind};
