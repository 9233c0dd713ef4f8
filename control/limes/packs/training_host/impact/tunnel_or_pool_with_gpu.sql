-- In one job and within 30 minutes: a tunnel or a pool contact, and GPU use by a program that nobody declared.
WITH gpu AS (
    SELECT *
    FROM hunt.signals
    WHERE event_time >= window_start()
        AND rule = 'gpu_use_by_undeclared_program' -- key: the trainer's own use does not count
),

contacts AS (
    SELECT *
    FROM hunt.signals
    WHERE event_time >= window_start()
)

SELECT
    greatest(g.event_time, max(c.event_time)) AS event_time,
    g.host_id,
    g.boot_id,
    g.cgroup_id,
    g.cgroup_path,
    g.process_entity_id,
    g.process_exec_id,
    format(
        '{}; in its job within 30 minutes: {}; first: {}',
        g.summary, string_agg(DISTINCT c.rule, ', ' ORDER BY c.rule), arg_min(c.summary, c.number)
    ) AS summary,
    list_concat(g.evidence, flatten(list(c.evidence ORDER BY c.number)))[:32] AS evidence,
    (g.simulated_device OR bool_or(c.simulated_device)) AS simulated_device
FROM gpu AS g
INNER JOIN contacts AS c
    ON g.host_id = c.host_id
        AND g.boot_id = c.boot_id
        AND g.cgroup_path = c.cgroup_path -- key: in one job
WHERE
    (
        FALSE
        OR c.rule = 'ssh_tunnel_command_line' -- key: a tunnel by its arguments
        OR c.rule = 'ssh_tunnel_behaviour' -- key: a tunnel by what it does
        OR c.rule = 'miner_command_line' -- key: a pool by the arguments
        -- Egress alone may be anything; by the program that uses the GPU it is a pool or a leak.
        OR (c.rule = 'egress_to_unlisted_destination' AND c.process_exec_id = g.process_exec_id) -- key: a pool by what it does
    )
    AND abs(epoch_ms(g.event_time) - epoch_ms(c.event_time)) <= 1800000 -- key: within 30 minutes
GROUP BY
    g.number, g.event_time, g.host_id, g.boot_id, g.cgroup_id, g.cgroup_path, g.process_entity_id,
    g.process_exec_id, g.summary, g.evidence, g.simulated_device
-- Whichever came last raises it.
HAVING bool_or(
    g.number IN (SELECT n.number FROM new_signals AS n)
    OR c.number IN (SELECT n.number FROM new_signals AS n)
)
