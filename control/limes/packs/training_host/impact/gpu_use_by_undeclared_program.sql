-- A program that is neither a declared trainer nor started by one, in the same job, used a GPU.
CREATE OR REPLACE TEMP TABLE gpu_use_by_undeclared_program_suspects AS
WITH calls AS (
    SELECT
        'gpu_events' AS kind, host_id, boot_id, cgroup_id, process_entity_id, process_exec_id,
        process_parent_exec_id, process_executable, event_time, sensor_epoch, event_seq,
        gpu_device_name, gpu_device_simulated
    FROM new_gpu_events
    UNION ALL
    SELECT
        'gpu_activity' AS kind, host_id, boot_id, cgroup_id, process_entity_id, process_exec_id,
        process_parent_exec_id, process_executable, event_time, sensor_epoch, event_seq,
        gpu_device_name, gpu_device_simulated
    FROM new_gpu_activity
)

SELECT c.*, j.job_class, j.job_cgroup_path
FROM calls AS c
INNER JOIN hunt.job_cgroups AS j USING (host_id, boot_id, cgroup_id)
WHERE
    TRUE
    -- Lost with its exec, it may be the trainer as well: the loss is counted, not guessed at.
    AND c.process_executable <> 'unattributed' -- key: an unknown image is not judged
    AND NOT EXISTS ( -- key begin: the trainer itself
        SELECT 1
        FROM policy_trainers AS t
        WHERE t.job_class = j.job_class AND t.process_executable = c.process_executable
    ) -- key end
QUALIFY row_number() OVER (
    PARTITION BY c.host_id, c.boot_id, j.job_cgroup_path, c.process_exec_id,
        time_bucket(INTERVAL 5 MINUTES, c.event_time)
    ORDER BY c.event_time, c.event_seq
) = 1;

-- The images above a suspect, as far as they began in its job: whoever stands outside vouches for nothing.
WITH RECURSIVE line AS (
    SELECT
        s.host_id, s.process_exec_id AS image, s.job_class, s.job_cgroup_path,
        s.process_parent_exec_id AS ancestor, '' AS process_executable, 0 AS generation
    FROM gpu_use_by_undeclared_program_suspects AS s
    UNION
    SELECT
        l.host_id, l.image, l.job_class, l.job_cgroup_path,
        p.process_parent_exec_id AS ancestor, p.process_executable, l.generation + 1 AS generation
    FROM line AS l
    INNER JOIN hunt.bare_images AS p
        ON l.host_id = p.host_id AND l.ancestor = p.process_exec_id
    INNER JOIN hunt.job_cgroups AS j
        ON p.host_id = j.host_id AND p.boot_id = j.boot_id AND p.cgroup_id = j.cgroup_id
    WHERE
        l.ancestor <> 0
        AND l.generation < 64
        AND j.job_cgroup_path = l.job_cgroup_path -- key: a trainer of another job vouches for nothing
)

SELECT
    s.event_time,
    s.host_id,
    s.boot_id,
    s.cgroup_id,
    s.job_cgroup_path AS cgroup_path,
    s.process_entity_id,
    s.process_exec_id,
    format(
        '{} used {}; it is neither a declared trainer of {} nor started by one',
        s.process_executable, s.gpu_device_name, s.job_class
    ) AS summary,
    [evidence_id(s.kind, s.sensor_epoch, s.event_seq)] AS evidence,
    s.gpu_device_simulated AS simulated_device
FROM gpu_use_by_undeclared_program_suspects AS s
WHERE
    TRUE
    AND NOT EXISTS ( -- key begin: what the trainer started
        SELECT 1
        FROM line AS l
        INNER JOIN policy_trainers AS t
            ON l.job_class = t.job_class AND l.process_executable = t.process_executable
        WHERE l.host_id = s.host_id
            AND l.image = s.process_exec_id
            AND l.job_cgroup_path = s.job_cgroup_path
    ) -- key end
