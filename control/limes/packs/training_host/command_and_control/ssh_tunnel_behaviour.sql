-- ssh of a job holds a connection to a peer that the policy does not list, and then it, or what it
-- started, connects to loopback or internal addresses: a forward is in use, whatever its arguments say.

-- The ssh images at work now: those that connected, and the parents of those that did.
-- An image, not a process: ssh -f goes on in a fork that runs the same image.
CREATE OR REPLACE TEMP TABLE ssh_tunnel_behaviour_seen AS
SELECT DISTINCT
    c.host_id,
    c.process_exec_id,
    c.process_executable,
    coalesce(c.process_parent_exec_id, 0) AS process_parent_exec_id
FROM new_connections AS c
INNER JOIN hunt.job_cgroups AS j USING (host_id, boot_id, cgroup_id)
WHERE c.network_transport = 'tcp';

CREATE OR REPLACE TEMP TABLE ssh_tunnel_behaviour_clients AS
SELECT s.host_id, s.process_exec_id AS client
FROM ssh_tunnel_behaviour_seen AS s
WHERE regexp_matches(s.process_executable, '/ssh$') -- key: ssh, by the resolved path
UNION
SELECT s.host_id, s.process_parent_exec_id AS client
FROM ssh_tunnel_behaviour_seen AS s
INNER JOIN hunt.bare_images AS p
    ON s.host_id = p.host_id AND s.process_parent_exec_id = p.process_exec_id
WHERE regexp_matches(p.process_executable, '/ssh$') -- key: what ssh started counts with it
;

-- ssh itself and the programs it started: a proxy command, a local command.
CREATE OR REPLACE TEMP TABLE ssh_tunnel_behaviour_images AS
SELECT k.host_id, k.client, p.process_exec_id, p.process_executable, p.process_parent_entity_id
FROM ssh_tunnel_behaviour_clients AS k
INNER JOIN hunt.bare_images AS p ON k.host_id = p.host_id AND k.client = p.process_exec_id
UNION
SELECT k.host_id, k.client, p.process_exec_id, p.process_executable, p.process_parent_entity_id
FROM ssh_tunnel_behaviour_clients AS k
INNER JOIN hunt.bare_images AS p ON k.host_id = p.host_id AND k.client = p.process_parent_exec_id;

CREATE OR REPLACE TEMP TABLE ssh_tunnel_behaviour_steps AS
SELECT
    c.*,
    i.client,
    i.process_executable,
    i.process_parent_entity_id,
    j.job_class,
    j.job_cgroup_path
FROM ssh_tunnel_behaviour_images AS i
INNER JOIN hunt.bare_connections AS c
    ON i.host_id = c.host_id AND i.process_exec_id = c.process_exec_id
INNER JOIN hunt.job_cgroups AS j
    ON c.host_id = j.host_id AND c.boot_id = j.boot_id AND c.cgroup_id = j.cgroup_id
WHERE
    c.event_time >= window_start()
    -- ssh asks resolvers by datagram; it forwards streams only.
    AND c.network_transport = 'tcp' -- key: a DNS query is not a forward
;

-- ssh reaches its peer itself, or through a proxy command that it started.
WITH peers AS (
    SELECT s.*
    FROM ssh_tunnel_behaviour_steps AS s
    WHERE
        TRUE
        AND NOT ip_is_loopback(s.destination_ip_value) -- key: a peer is another host
        AND s.event_action IN ( -- key begin: a connect that failed is no peer
            'connection_established', 'connection_progress'
        ) -- key end
        AND NOT policy_allows( -- key begin: git over ssh to a listed forge is quiet
            s.job_class, s.destination_ip_value, s.destination_port, s.process_executable
        ) -- key end
)

SELECT
    greatest(u.event_time, p.event_time) AS event_time,
    u.host_id,
    u.boot_id,
    u.cgroup_id,
    u.job_cgroup_path AS cgroup_path,
    if(p.process_exec_id = p.client, p.process_entity_id, p.process_parent_entity_id) AS process_entity_id,
    p.client AS process_exec_id,
    format(
        'ssh is connected to {} port {} (by {}), and {} passes traffic on to {} port {}',
        ip_value_text(p.destination_ip_value), p.destination_port, p.process_executable,
        u.process_executable, ip_value_text(u.destination_ip_value), u.destination_port
    ) AS summary,
    [
        evidence_id('connections', p.sensor_epoch, p.event_seq),
        evidence_id('connections', u.sensor_epoch, u.event_seq)
    ] AS evidence,
    FALSE AS simulated_device
FROM ssh_tunnel_behaviour_steps AS u
INNER JOIN peers AS p
    ON u.host_id = p.host_id
        AND u.boot_id = p.boot_id
        AND u.client = p.client
        AND u.job_cgroup_path = p.job_cgroup_path
WHERE
    TRUE
    AND (ip_is_loopback(u.destination_ip_value) OR ip_is_internal(u.destination_ip_value)) -- key: inward
    AND u.destination_ip_value <> p.destination_ip_value -- key: the peer itself is no forward
    -- A name service may be asked before; a forward is used after.
    AND u.event_boot_time_ns >= p.event_boot_time_ns -- key: in this order
QUALIFY row_number() OVER (
    PARTITION BY u.host_id, u.boot_id, u.job_cgroup_path, p.client,
        time_bucket(INTERVAL 5 MINUTES, greatest(u.event_time, p.event_time))
    ORDER BY greatest(u.event_time, p.event_time)
) = 1
