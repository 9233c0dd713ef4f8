-- How a process began, when it was forked.
SELECT process_pid, process_exec_id, process_parent_entity_id
FROM process_forks
WHERE host_id = $1 AND boot_id = $2 AND process_entity_id = $3
LIMIT 1;
