-- A job started a program whose arguments are those of a coin miner.
WITH started AS (
    SELECT
        x.*,
        j.job_cgroup_path,
        regexp_matches(x.process_executable, '/(ba|da|z|k|a)?sh$') AS is_shell
    FROM new_process_execs AS x
    INNER JOIN hunt.job_cgroups AS j USING (host_id, boot_id, cgroup_id)
)

SELECT
    event_time,
    host_id,
    boot_id,
    cgroup_id,
    job_cgroup_path AS cgroup_path,
    process_entity_id,
    process_exec_id,
    format('{} was started as a coin miner is: {}', process_executable, process_command_line[:300]) AS summary,
    [evidence_id('process_execs', sensor_epoch, event_seq)] AS evidence,
    FALSE AS simulated_device
FROM started
WHERE
    (
        FALSE
        -- What a shell starts has arguments of its own, and is seen then: its script does not count,
        -- except for what never becomes an argument.
        OR (NOT is_shell AND regexp_matches(process_command_line, '(?i)\b(stratum|ethstratum|nicehash)[12]?(\+(tcp|udp|tls|ssl|ws|wss))?2?://')) -- key: pool URL
        OR (NOT is_shell AND regexp_matches(process_args, '(?i)\x00--?(donate-level|donate-over-proxy|nicehash|cpu-max-threads-hint|randomx-[a-z0-9-]+|rig-id|coinbase-addr)(=|\x00|$)')) -- key: miner flags
        OR (NOT is_shell AND regexp_matches(process_args, '(?i)\x00(-a|--?algo(rithm)?|--coin)[=\x00](rx/[a-z0-9]+|randomx|cn/[a-z0-9]+|cryptonight[a-z0-9/-]*|kawpow|ethash|etchash|autolykos2?|octopus|kheavyhash|argon2/[a-z0-9]+|ghostrider|equihash[0-9_/]*|progpow[a-z]*|verushash|monero|ravencoin)(\x00|$)')) -- key: algorithm
        OR (NOT is_shell AND regexp_matches(process_args, '(?i)\x00(-o|--url|--pool|-P|--server)[=\x00]([a-z0-9.+-]+://)?([a-z0-9-]+\.)*(pool|mine|xmr|eth|rvn|nicehash|nanopool|minexmr|hashvault|supportxmr|2miners|f2pool|ethermine|flexpool|herominers|moneroocean|woolypooly)[a-z0-9-]*\.[a-z0-9.-]+:\d+(\x00|$)')) -- key: pool host
        -- base64 of "stratum+" and of "stratum2", at its three offsets.
        OR regexp_matches(process_args, 'c3RyYXR1b[STXV]|N0cmF0dW[0-9a-zA-Z]|zdHJhdHVt') -- key: base64
        OR regexp_matches(process_args, 'mining\.(subscribe|authorize|submit)\b') -- key: Stratum by hand
    )
    -- These print or search what they are given and run nothing of it. Only where the system keeps
    -- them: a miner may call itself grep.
    AND NOT regexp_matches( -- key begin: printing is not mining
        process_executable,
        '^(/usr|/usr/local)?/bin/([ef]?grep|rg|ag|ack|echo|printf|cat|head|tail|less|more|ls|find|fd|sed|gawk|mawk|sort|uniq|wc|cut|tr|tee|diff|cmp|file|stat|strings|xxd|od|base64|jq|git|man|vim?|nano|touch|mkdir|rm|cp|mv)$'
    ) -- key end
