-- A job started ssh with arguments that ask for a tunnel: -R, -L, -D, -w or -W, alone, joined to its
-- value or to other flags, or one of the options of the same meaning after -o.
WITH started AS (
    SELECT
        x.event_time,
        x.host_id,
        x.boot_id,
        x.cgroup_id,
        j.job_cgroup_path,
        x.process_entity_id,
        x.process_exec_id,
        x.process_executable,
        x.process_command_line,
        x.sensor_epoch,
        x.event_seq,
        regexp_matches(x.process_executable, '/ssh$') AS is_ssh,
        -- What ssh takes for its own: options, one destination, options. After that comes the remote
        -- command, of which nothing counts. Flags without a value may share a word with one that has it.
        regexp_extract(
            regexp_replace(x.process_args, '\x00$', ''),
            '^[^\x00]*'
            || '(\x00-[1246AaCfGgKkMNnqsTtVvXxYy]*[BbcDEeFIiJLlmOoPpQRSWw]([^\x00]+|\x00[^\x00]*)|\x00-[1246AaCfGgKkMNnqsTtVvXxYy]+)*' -- key: options before the destination
            || '((\x00--)?\x00[^-\x00][^\x00]*' -- key begin: options after the destination
            || '(\x00-[1246AaCfGgKkMNnqsTtVvXxYy]*[BbcDEeFIiJLlmOoPpQRSWw]([^\x00]+|\x00[^\x00]*)|\x00-[1246AaCfGgKkMNnqsTtVvXxYy]+)*)?' -- key end
        ) AS own_args
    FROM new_process_execs AS x
    INNER JOIN hunt.job_cgroups AS j USING (host_id, boot_id, cgroup_id)
),

-- One row an option that has a value.
options AS (
    SELECT
        *,
        unnest(
            regexp_extract_all(
                own_args,
                '\x00-[1246AaCfGgKkMNnqsTtVvXxYy]*[BbcDEeFIiJLlmOoPpQRSWw]([^\x00]+|\x00[^\x00]*)'
            )
        ) AS option
    FROM started
),

named AS (
    SELECT
        *,
        regexp_extract(option, '^\x00-[1246AaCfGgKkMNnqsTtVvXxYy]*([A-Za-z])', 1) AS letter,
        regexp_extract(option, '(?s)^\x00-[1246AaCfGgKkMNnqsTtVvXxYy]*[A-Za-z]\x00?(.*)$', 1) AS value
    FROM options
)

SELECT
    event_time,
    host_id,
    boot_id,
    cgroup_id,
    job_cgroup_path AS cgroup_path,
    process_entity_id,
    process_exec_id,
    format('{} was started to open a tunnel: {}', process_executable, process_command_line[:300]) AS summary,
    [evidence_id('process_execs', sensor_epoch, event_seq)] AS evidence,
    FALSE AS simulated_device
FROM named
WHERE
    (
        is_ssh
        AND (
            FALSE
            OR letter = 'R' -- key: remote forward, or a proxy for the other side
            OR letter = 'L' -- key: local forward
            OR letter = 'D' -- key: proxy
            OR letter = 'w' -- key: tunnel device
            OR letter = 'W' -- key: standard input and output
            OR (
                letter = 'o'
                AND (
                    FALSE
                    OR regexp_matches(value, '(?i)^[\s"]*(remote|local|dynamic)forward[\s"]*[=\s]') -- key: forwards by -o
                    OR regexp_matches(value, '(?i)^[\s"]*tunnel[\s"]*[=\s][\s"=]*(yes|point-to-point|ethernet)') -- key: tunnel device by -o
                )
            )
        )
    )
    -- A copy of ssh under another name: a forward with a port at both ends, and a login or -N.
    OR (
        FALSE
        OR ( -- key begin: a renamed ssh
            NOT is_ssh
            AND letter IN ('R', 'L')
            AND regexp_matches(value, '^([^/]*:)?\d+:[^/]+:\d+$') -- key: the shape of a forward
            AND regexp_matches(
                own_args,
                '\x00[^-@/:\x00]+@[^/\x00]+(\x00|$)|\x00-[1246AaCfgKkMNnqsTtvXxYyRL]*N'
            )
        ) -- key end
    )
QUALIFY row_number() OVER (PARTITION BY host_id, boot_id, process_exec_id ORDER BY letter) = 1
