-- A process of a job connected, or tried to connect, to an external address that its policy does not list.
SELECT
    c.event_time,
    c.host_id,
    c.boot_id,
    c.cgroup_id,
    j.job_cgroup_path AS cgroup_path,
    c.process_entity_id,
    c.process_exec_id,
    format(
        '{} connected to {} port {} ({}), which the policy of {} does not list',
        c.process_executable, c.destination_ip, c.destination_port, c.event_action, j.job_class
    ) AS summary,
    [evidence_id('connections', c.sensor_epoch, c.event_seq)] AS evidence,
    FALSE AS simulated_device
FROM new_connections AS c
INNER JOIN hunt.job_cgroups AS j USING (host_id, boot_id, cgroup_id)
WHERE
    TRUE
    -- Loopback, link and internal addresses have rules of their own.
    AND NOT ip_is_loopback(c.destination_ip_value) -- key: the host itself is not egress
    AND NOT ip_is_link(c.destination_ip_value) -- key: what stays on the link is not egress
    AND NOT ip_is_internal(c.destination_ip_value) -- key: internal networks are not egress
    -- Resolvers connect datagram sockets to port 0 to learn a source address; nothing is sent.
    AND c.destination_port <> 0 -- key: asking for a route is not egress
    AND NOT policy_allows( -- key begin: listed destinations are agreed
        j.job_class, c.destination_ip_value, c.destination_port, c.process_executable
    ) -- key end
-- One row an image is enough, the first of five minutes.
QUALIFY row_number() OVER (
    PARTITION BY c.host_id, c.boot_id, j.job_cgroup_path, c.process_exec_id,
        time_bucket(INTERVAL 5 MINUTES, c.event_time)
    ORDER BY c.event_time, c.event_seq
) = 1
