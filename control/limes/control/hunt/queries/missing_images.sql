-- Images that rows of the snapshot name and that it lacks, because older rows were left out.
WITH named AS (
    SELECT host_id, process_exec_id FROM process_forks
    UNION SELECT host_id, process_exec_id FROM process_exits
    UNION SELECT host_id, process_exec_id FROM connections
    UNION SELECT host_id, process_exec_id FROM gpu_events
    UNION SELECT host_id, process_exec_id FROM gpu_activity
    UNION SELECT host_id, process_exec_id FROM cgroup_events
    UNION SELECT host_id, process_parent_exec_id FROM process_execs
)

SELECT host_id, process_exec_id
FROM named
ANTI JOIN process_execs USING (host_id, process_exec_id)
WHERE process_exec_id <> 0;
