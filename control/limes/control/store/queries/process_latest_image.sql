-- The latest program image of a process.
SELECT
    process_entity_id,
    process_exec_id,
    process_pid,
    process_executable,
    replace(rtrim(process_args, chr(0)), chr(0), ' '),
    process_parent_entity_id,
    process_parent_exec_id,
    process_parent_pid
FROM process_execs
WHERE host_id = $1 AND boot_id = $2 AND process_entity_id = $3
ORDER BY event_boot_time_ns DESC
LIMIT 1;
