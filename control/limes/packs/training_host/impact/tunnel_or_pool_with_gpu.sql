-- In one job and within 30 minutes: a tunnel or a pool contact, and GPU use by a program that nobody declared.

-- Whichever came last raises it: new use with every contact, every use with a new contact.
CREATE OR REPLACE TEMP TABLE tunnel_or_pool_with_gpu_pairs AS
WITH lately AS (
    SELECT
        s.*,
        s.number IN (SELECT n.number FROM new_signals AS n) AS is_new
    FROM hunt.signals AS s
    WHERE s.event_time >= window_start()
),

uses AS (
    SELECT *
    FROM lately
    WHERE
        TRUE
        AND rule = 'gpu_use_by_undeclared_program' -- key: the trainer's own use does not count
),

pairs AS (
    SELECT g, c
    FROM uses AS g
    INNER JOIN lately AS c ON g.host_id = c.host_id AND g.boot_id = c.boot_id
    WHERE g.is_new
    UNION ALL
    SELECT g, c
    FROM uses AS g
    INNER JOIN lately AS c ON g.host_id = c.host_id AND g.boot_id = c.boot_id
    WHERE c.is_new AND NOT g.is_new
)

SELECT g, c
FROM pairs
WHERE
    (
        FALSE
        OR c.rule = 'ssh_tunnel_command_line' -- key: a tunnel by its arguments
        OR c.rule = 'ssh_tunnel_behaviour' -- key: a tunnel by what it does
        OR c.rule = 'miner_command_line' -- key: a pool by the arguments
        -- Egress alone may be anything; by the program that uses the GPU it is a pool or a leak.
        OR (c.rule = 'egress_to_unlisted_destination' AND c.process_exec_id = g.process_exec_id) -- key: a pool by what it does
    )
    AND c.cgroup_path = g.cgroup_path -- key: in one job
    AND abs(epoch_ms(g.event_time) - epoch_ms(c.event_time)) <= 1800000 -- key: within 30 minutes
;

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
FROM tunnel_or_pool_with_gpu_pairs
GROUP BY g
-- One use of a job is enough, the first of those that a new contact meets.
QUALIFY row_number() OVER (PARTITION BY g.host_id, g.boot_id, g.cgroup_path ORDER BY g.number) = 1
