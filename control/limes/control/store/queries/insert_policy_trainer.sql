-- One declared trainer of a job class.
INSERT INTO policy_trainers (job_class, process_executable)
VALUES ($1, $2);
