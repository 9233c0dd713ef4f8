-- Takes the program images that a commit's events name for the first time.
INSERT INTO process_images
SELECT
    host_id,
    process_exec_id,
    process_parent_entity_id,
    process_parent_exec_id,
    process_name,
    process_executable,
    process_args,
    user_id
FROM new_process_execs
WHERE process_exec_id <> 0
ON CONFLICT DO NOTHING;
