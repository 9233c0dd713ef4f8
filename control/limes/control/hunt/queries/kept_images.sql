-- The images whose execs the snapshot holds.
SELECT DISTINCT host_id, process_exec_id
FROM process_execs;
