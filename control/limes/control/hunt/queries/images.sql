-- The images that `missing` lists.
SELECT process_execs.*
FROM process_execs
SEMI JOIN missing USING (host_id, process_exec_id);
