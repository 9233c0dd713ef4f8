-- How many rows at work have an image or a cgroup that is not known yet.
SELECT count(*)
FROM new_{kind}
WHERE (process_exec_id IS NOT NULL AND process_executable = 'unattributed')
    OR (cgroup_id IS NOT NULL AND cgroup_path = 'unattributed');
