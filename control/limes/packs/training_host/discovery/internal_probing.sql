-- A job tried ten or more internal endpoints that its policy does not list, within five minutes.

-- The jobs that tried one now.
CREATE OR REPLACE TEMP TABLE internal_probing_jobs AS
SELECT DISTINCT c.host_id, c.boot_id, j.job_class, j.job_cgroup_path
FROM new_connections AS c
INNER JOIN hunt.job_cgroups AS j USING (host_id, boot_id, cgroup_id)
WHERE
    ip_is_internal(c.destination_ip_value)
    AND NOT policy_allows(
        j.job_class, c.destination_ip_value, c.destination_port, c.process_executable
    );

-- At most one row in five seconds for each image and endpoint: retries must not cost.
CREATE OR REPLACE TEMP TABLE internal_probing_tries AS
SELECT
    c.host_id,
    c.boot_id,
    b.job_class,
    b.job_cgroup_path,
    c.process_exec_id,
    c.destination_ip_value,
    c.destination_port,
    time_bucket(INTERVAL 5 SECONDS, c.event_time) AS slot,
    min(c.event_time) AS event_time,
    bool_or(c.event_action = 'connection_failed') AS failed,
    arg_min(c.cgroup_id, c.event_time) AS cgroup_id,
    arg_min(c.process_entity_id, c.event_time) AS process_entity_id,
    arg_min(evidence_id('connections', c.sensor_epoch, c.event_seq), c.event_time) AS event
FROM internal_probing_jobs AS b
INNER JOIN hunt.job_cgroups AS j
    ON b.host_id = j.host_id AND b.boot_id = j.boot_id AND b.job_cgroup_path = j.job_cgroup_path
INNER JOIN hunt.bare_connections AS c
    ON j.host_id = c.host_id AND j.boot_id = c.boot_id AND j.cgroup_id = c.cgroup_id
WHERE
    c.event_time >= window_start()
    -- An open connection reports its progress for days; that is not probing.
    AND c.event_action IN ( -- key begin: attempts and their results count, progress does not
        'connection_attempted', 'connection_established', 'connection_failed'
    ) -- key end
GROUP BY
    c.host_id, c.boot_id, b.job_class, b.job_cgroup_path, c.process_exec_id,
    c.destination_ip_value, c.destination_port, slot;

WITH attempts AS (
    SELECT
        t.*,
        coalesce(x.process_executable, 'unattributed') AS process_executable
    FROM internal_probing_tries AS t
    LEFT JOIN hunt.bare_images AS x USING (host_id, process_exec_id)
    WHERE
        TRUE
        AND ip_is_internal(t.destination_ip_value) -- key: egress has a rule of its own
        -- The peers of a cluster are listed in the policy: collective libraries talk to all of them.
        AND NOT policy_allows( -- key begin: listed peers are agreed
            t.job_class, t.destination_ip_value, t.destination_port,
            coalesce(x.process_executable, 'unattributed')
        ) -- key end
),

windows AS (
    SELECT
        *,
        count(DISTINCT (destination_ip_value, destination_port)) OVER (
            PARTITION BY host_id, boot_id, job_cgroup_path
            ORDER BY event_time
            RANGE BETWEEN INTERVAL 5 MINUTES PRECEDING AND CURRENT ROW
        ) AS endpoints
    FROM attempts
),

-- The moment it became too many, once a job in five minutes.
found AS (
    SELECT *
    FROM windows
    WHERE
        TRUE
        AND endpoints >= 10 -- key: a handful of services is ordinary
    QUALIFY row_number() OVER (
        PARTITION BY host_id, boot_id, job_cgroup_path, time_bucket(INTERVAL 5 MINUTES, event_time)
        ORDER BY event_time
    ) = 1
)

SELECT
    f.event_time,
    f.host_id,
    f.boot_id,
    f.cgroup_id,
    f.job_cgroup_path AS cgroup_path,
    f.process_entity_id,
    f.process_exec_id,
    format(
        '{} tried, with its job, {} internal endpoints in five minutes; {} attempts had failed by then',
        f.process_executable, any_value(f.endpoints), count(*) FILTER (a.failed)
    ) AS summary,
    list(a.event ORDER BY a.event_time)[:32] AS evidence,
    FALSE AS simulated_device
FROM found AS f
INNER JOIN attempts AS a
    ON f.host_id = a.host_id
        AND f.boot_id = a.boot_id
        AND f.job_cgroup_path = a.job_cgroup_path
        AND a.event_time BETWEEN f.event_time - INTERVAL 5 MINUTES AND f.event_time
GROUP BY
    f.event_time, f.host_id, f.boot_id, f.cgroup_id, f.job_cgroup_path, f.process_entity_id,
    f.process_exec_id, f.process_executable
