-- Which program in which cgroup talked where, and which GPU it used.
-- Of the destinations that answered the two with the most traffic are named, the others counted.
WITH connections AS (
    SELECT
        host_id,
        cgroup_path,
        process_executable,
        connection_id,
        concat(any_value(destination_ip), ':', any_value(destination_port)) AS destination,
        bool_or(event_action IN ('connection_established', 'connection_progress')) AS answered,
        max(source_bytes) AS source_bytes
    FROM hunt.connections
    GROUP BY ALL
),

destinations AS (
    SELECT
        host_id,
        cgroup_path,
        process_executable,
        destination,
        bool_or(answered) AS answered,
        sum(source_bytes) AS source_bytes
    FROM connections
    GROUP BY ALL
),

talks AS (
    SELECT
        host_id,
        cgroup_path,
        process_executable,
        list(destination ORDER BY source_bytes DESC, destination) FILTER (answered) AS peers,
        count(*) FILTER (NOT answered) AS silent,
        sum(source_bytes)::BIGINT AS source_bytes
    FROM destinations
    GROUP BY ALL
),

calls AS (
    SELECT
        host_id,
        cgroup_path,
        process_executable,
        gpu_device_name,
        sum(gpu_calls) AS gpu_calls
    FROM hunt.gpu_activity
    GROUP BY ALL
),

uses AS (
    SELECT
        host_id,
        cgroup_path,
        process_executable,
        string_agg(format('{}, {} calls', gpu_device_name, gpu_calls), '; ' ORDER BY gpu_device_name) AS gpu
    FROM calls
    GROUP BY ALL
)

SELECT
    cgroup_path AS cgroup,
    parse_filename(process_executable) AS program,
    nullif(concat_ws(
        ' ',
        nullif(array_to_string(t.peers[:2], ' '), ''),
        if(len(t.peers) > 2, format('+{}', len(t.peers) - 2), NULL),
        if(t.silent > 0, format('({} silent or refused)', t.silent), NULL)
    ), '') AS talked_to,
    format_bytes(t.source_bytes) AS sent,
    u.gpu
FROM talks AS t
FULL JOIN uses AS u USING (host_id, cgroup_path, process_executable)
ORDER BY cgroup_path, process_executable;
