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
        rtrim(x.process_args, chr(0)) AS args,
        regexp_matches(x.process_executable, '/ssh$') AS is_ssh
    FROM new_process_execs AS x
    INNER JOIN hunt.job_cgroups AS j USING (host_id, boot_id, cgroup_id)
),

-- Arguments are read as ssh reads them: options, one destination, options, then a remote command,
-- of which nothing counts. Flags without a value may stand before one with a value, in one word.
marked AS (
    SELECT
        *,
        regexp_matches(
            args,
            '^[^\x00]*'
            || '(\x00-[1246AaCfGgKkMNnqsTtVvXxYy]+|\x00-[1246AaCfGgKkMNnqsTtVvXxYy]*[BbcEeFIiJlmOoPpQS]([^\x00]+|\x00[^\x00]*))*'
            || '((\x00--)?\x00[^-\x00][^\x00]*'
            || '(\x00-[1246AaCfGgKkMNnqsTtVvXxYy]+|\x00-[1246AaCfGgKkMNnqsTtVvXxYy]*[BbcEeFIiJlmOoPpQS]([^\x00]+|\x00[^\x00]*))*)?'
            || '\x00-[1246AaCfGgKkMNnqsTtVvXxYy]*[RLDwW]'
        ) AS by_flag,
        regexp_matches(
            args,
            '^[^\x00]*'
            || '(\x00-[1246AaCfGgKkMNnqsTtVvXxYy]+|\x00-[1246AaCfGgKkMNnqsTtVvXxYy]*[BbcDEeFIiJLlmOoPpQRSWw]([^\x00]+|\x00[^\x00]*))*'
            || '((\x00--)?\x00[^-\x00][^\x00]*'
            || '(\x00-[1246AaCfGgKkMNnqsTtVvXxYy]+|\x00-[1246AaCfGgKkMNnqsTtVvXxYy]*[BbcDEeFIiJLlmOoPpQRSWw]([^\x00]+|\x00[^\x00]*))*)?'
            || '\x00-[1246AaCfGgKkMNnqsTtVvXxYy]*o\x00?[\s"]*'
            || '((?i:remoteforward|localforward|dynamicforward)[\s"]*[=\s]'
            || '|(?i:tunnel)[\s"]*[=\s][\s"=]*(?i:yes|point-to-point|ethernet))'
        ) AS by_option,
        -- A copy of ssh under another name: the value of -R or -L has a shape that few others use.
        regexp_matches(
            args,
            '\x00-[1246AaCfGgKkMNnqsTtVvXxYy]*[RL]\x00?([^\x00/]*:)?\d+:[^\x00/]+:\d+(\x00|$)'
        )
        AND regexp_matches(
            args,
            '\x00[^-@/:\x00]+@[^/\x00]+(\x00|$)|\x00-[46AaCfgkMNnqTtvXxYy]*N[46AaCfgkMNnqTtvXxYyRL]*(\x00|$)'
        ) AS by_shape
    FROM started
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
FROM marked
WHERE
    FALSE
    OR (is_ssh AND by_flag) -- key: -R, -L, -D, -w, -W
    OR (is_ssh AND by_option) -- key: -o RemoteForward and its like
    OR (NOT is_ssh AND by_shape) -- key: a renamed ssh
