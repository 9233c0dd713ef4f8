-- A process of a job connected, or tried to connect, to a cloud metadata or credential address.
SELECT
    c.event_time,
    c.host_id,
    c.boot_id,
    c.cgroup_id,
    j.job_cgroup_path AS cgroup_path,
    c.process_entity_id,
    c.process_exec_id,
    format(
        '{} asked for cloud metadata at {} port {}',
        c.process_executable, c.destination_ip, c.destination_port
    ) AS summary,
    [evidence_id('connections', c.sensor_epoch, c.event_seq)] AS evidence,
    FALSE AS simulated_device
FROM new_connections AS c
INNER JOIN hunt.job_cgroups AS j USING (host_id, boot_id, cgroup_id)
WHERE
    (
        FALSE
        OR c.destination_ip = '169.254.169.254' -- key: AWS, Azure, GCP, Oracle, OpenStack
        OR c.destination_ip = '169.254.170.2' -- key: AWS task roles
        OR c.destination_ip = '169.254.170.23' -- key: AWS pod identities
        OR c.destination_ip = 'fd00:ec2::254' -- key: AWS over IPv6
        OR c.destination_ip = 'fd00:ec2::23' -- key: AWS pod identities over IPv6
        OR c.destination_ip = 'fd20:ce::254' -- key: GCP over IPv6
        OR c.destination_ip = '100.100.100.200' -- key: Alibaba Cloud
    )
    -- Training code that asks on purpose, such as a storage client, is listed in the policy.
    AND NOT policy_allows( -- key begin: agreed lookups are quiet
        j.job_class, c.destination_ip_value, c.destination_port, c.process_executable
    ) -- key end
