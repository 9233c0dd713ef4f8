-- Finds the job of each cgroup that was named in the commits at work.
INSERT OR IGNORE INTO policy_job_cgroups (host_id, boot_id, cgroup_id, job_class, job_cgroup_path)
SELECT
    g.host_id,
    g.boot_id,
    g.cgroup_id,
    arg_min(p.job_class, p.position),
    arg_min(regexp_extract(g.cgroup_path, p.cgroup_regex, 1), p.position)
FROM cgroups AS g
INNER JOIN policy_jobs AS p ON regexp_matches(g.cgroup_path, p.cgroup_regex)
WHERE (g.host_id, g.boot_id, g.cgroup_id) IN (
    SELECT (c.host_id, c.boot_id, c.cgroup_id)
    FROM cgroup_events AS c
    WHERE c.ingest_id > $1 AND c.ingest_id <= $2
)
GROUP BY g.host_id, g.boot_id, g.cgroup_id;
