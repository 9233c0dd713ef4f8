-- One cgroup pattern of a job class.
INSERT INTO policy_jobs (job_class, position, cgroup_pattern, cgroup_regex)
VALUES ($1, $2, $3, $4);
