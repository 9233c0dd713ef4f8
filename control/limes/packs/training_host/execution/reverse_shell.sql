-- A job started a program that reads from the network and writes to it as if it were a terminal.
SELECT
    x.event_time,
    x.host_id,
    x.boot_id,
    x.cgroup_id,
    j.job_cgroup_path AS cgroup_path,
    x.process_entity_id,
    x.process_exec_id,
    format('{} was started with a network connection for a terminal: {}', x.process_executable, x.process_command_line[:300]) AS summary,
    [evidence_id('process_execs', x.sensor_epoch, x.event_seq)] AS evidence,
    FALSE AS simulated_device
FROM new_process_execs AS x
INNER JOIN hunt.job_cgroups AS j USING (host_id, boot_id, cgroup_id)
WHERE
    TRUE
    AND x.process_stdin = 'internet_socket' -- key: it reads from the network
    AND x.process_stdout = 'internet_socket' -- key: it answers there
    -- The server of ssh hands each connection to itself so; what a login then runs has a terminal or
    -- a pipe. Only where the system keeps it: a shell may call itself sshd.
    AND NOT regexp_matches( -- key begin: a login by ssh
        x.process_executable,
        '^/usr/(sbin/sshd|(lib|libexec)/(openssh/)?sshd-(session|auth))$'
    ) -- key end
