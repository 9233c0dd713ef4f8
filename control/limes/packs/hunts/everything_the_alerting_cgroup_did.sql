-- Everything that the cgroup of the worst alert did, in order: programs, connections, GPU calls.
-- Of alerts that are equally bad the newest counts. What one program did over and over is one line,
-- at the time of the first; the middle of long paths is left out.
WITH worst AS (
    SELECT host_id, boot_id, cgroup_path
    FROM hunt.alerts
    ORDER BY list_position(['low', 'medium', 'high', 'critical'], severity) DESC, number DESC
    LIMIT 1
),

inside AS (
    SELECT g.host_id, g.boot_id, g.cgroup_id
    FROM hunt.cgroups AS g
    INNER JOIN worst AS w
        ON g.host_id = w.host_id
            AND g.boot_id = w.boot_id
            AND (g.cgroup_path = w.cgroup_path OR starts_with(g.cgroup_path, w.cgroup_path || '/'))
),

programs AS (
    SELECT
        event_time,
        process_pid,
        process_executable,
        regexp_replace(
            process_command_line, '(/[^ /]+/[^ /]+)(?:/[^ /]+)+(/[^ /]+)', '\1/…\2', 'g'
        ) AS command_line
    FROM hunt.process_execs
    SEMI JOIN inside USING (host_id, boot_id, cgroup_id)
),

-- One row a connection: how it ended, or how far it has come.
connections AS (
    SELECT
        host_id,
        boot_id,
        connection_id,
        min(event_time) AS event_time,
        any_value(process_exec_id) AS process_exec_id,
        any_value(process_pid) AS process_pid,
        any_value(process_executable) AS process_executable,
        concat(any_value(destination_ip), ' port ', any_value(destination_port)) AS endpoint,
        CASE
            WHEN bool_or(event_action IN ('connection_established', 'connection_progress'))
                THEN 'connected to'
            WHEN max(connection_error) = 111 THEN 'was refused by'
            WHEN max(connection_error) > 0 THEN 'failed to reach'
            ELSE 'got no answer from'
        END AS outcome,
        max(source_bytes) AS source_bytes,
        max(destination_bytes) AS destination_bytes
    FROM hunt.connections
    SEMI JOIN inside USING (host_id, boot_id, cgroup_id)
    GROUP BY ALL
),

-- A few endpoints are named; of many, the first is, and the others are counted.
endpoints AS (
    SELECT
        *,
        if(count(DISTINCT endpoint) OVER program <= 3, endpoint, 'many') AS named
    FROM connections
    WINDOW program AS (PARTITION BY host_id, boot_id, process_exec_id, process_pid, outcome)
),

gpu AS (
    SELECT host_id, boot_id, cgroup_id, event_time, process_pid, process_executable, process_exec_id, gpu_device_name, 0 AS gpu_calls
    FROM hunt.gpu_events
    UNION ALL
    SELECT host_id, boot_id, cgroup_id, event_time, process_pid, process_executable, process_exec_id, gpu_device_name, gpu_calls
    FROM hunt.gpu_activity
),

timeline AS (
    SELECT
        event_time,
        1 AS place,
        process_pid,
        process_executable,
        concat('ran ', command_line[:120], if(len(command_line) > 120, '…', '')) AS what
    FROM programs
    UNION ALL
    SELECT
        min(event_time),
        2,
        process_pid,
        process_executable,
        concat(
            outcome, ' ', min_by(endpoint, event_time),
            if(count(DISTINCT endpoint) > 1, format(' and {} more', count(DISTINCT endpoint) - 1), ''),
            if(sum(source_bytes + destination_bytes) > 0, format(
                ', {} out, {} in', format_bytes(sum(source_bytes)::BIGINT), format_bytes(sum(destination_bytes)::BIGINT)
            ), '')
        )
    FROM endpoints
    GROUP BY host_id, boot_id, process_exec_id, process_pid, process_executable, outcome, named
    UNION ALL
    SELECT
        min(event_time),
        3,
        process_pid,
        process_executable,
        concat('made ', sum(gpu_calls), ' calls on ', gpu_device_name)
    FROM gpu
    SEMI JOIN inside USING (host_id, boot_id, cgroup_id)
    GROUP BY host_id, boot_id, process_exec_id, process_pid, process_executable, gpu_device_name
    UNION ALL
    SELECT
        a.event_time,
        4,
        NULL,
        'ALERT',
        concat(a.severity, ' ', a.rule)
    FROM hunt.alerts AS a
    SEMI JOIN worst USING (host_id, boot_id, cgroup_path)
)

SELECT
    strftime(event_time, '%H:%M:%S.%g') AS "at",
    process_pid AS pid,
    parse_filename(process_executable) AS program,
    what
FROM timeline
ORDER BY event_time, place, process_pid, what;
