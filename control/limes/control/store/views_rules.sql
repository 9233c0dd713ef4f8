-- How far back the rule at work looks: the engine sets the variable; by hand and in hunts, all the way.
CREATE OR REPLACE MACRO window_start() AS
    coalesce(getvariable('window_start')::TIMESTAMP, TIMESTAMP '0001-01-01 00:00:00');

-- True when the policy lets `executable`, in a job of class `class_name`, connect to `ip` and `port`.
CREATE OR REPLACE MACRO policy_allows(class_name, ip, port, executable) AS
    EXISTS (
        SELECT 1
        FROM main.policy_allow AS p
        WHERE p.job_class = class_name
            AND ip BETWEEN p.first_ip_value AND p.last_ip_value
            AND (len(p.ports) = 0 OR list_contains(p.ports, port))
            AND (len(p.executables) = 0 OR list_contains(p.executables, executable))
    );

-- True for 127.0.0.0/8, ::1 and the unspecified addresses, which Linux takes for the host itself.
CREATE OR REPLACE MACRO ip_is_loopback(ip) AS
    ip BETWEEN 281472812449792::UHUGEINT AND 281472829227007::UHUGEINT
    OR ip IN (0::UHUGEINT, 1::UHUGEINT, 281470681743360::UHUGEINT);

-- True for addresses that never leave the link: 169.254.0.0/16, fe80::/10, multicast, broadcast.
CREATE OR REPLACE MACRO ip_is_link(ip) AS
    ip BETWEEN 281473533739008::UHUGEINT AND 281473533804543::UHUGEINT
    OR ip BETWEEN 281474439839744::UHUGEINT AND 281474708275199::UHUGEINT
    OR ip = 281474976710655::UHUGEINT
    OR (ip >> 118) = 1018::UHUGEINT
    OR (ip >> 120) = 255::UHUGEINT;

-- True for the networks that the policy calls internal.
CREATE OR REPLACE MACRO ip_is_internal(ip) AS
    EXISTS (
        SELECT 1
        FROM main.policy_internal AS n
        WHERE ip BETWEEN n.first_ip_value AND n.last_ip_value
    );

-- The text of an address that is given as one number.
CREATE OR REPLACE MACRO ip_value_text(ip) AS
    ip_text((ip >> 64)::UBIGINT, (ip & 18446744073709551615::UHUGEINT)::UBIGINT);

-- Narrow views for joins over long windows: ids are plain columns (0 where absent, so that a join can
-- skip what it does not need), addresses are numbers, nothing is looked up.

-- Steps of connections.
CREATE OR REPLACE VIEW hunt.bare_connections AS
SELECT
    e.ingest_id,
    e.host_id,
    e.boot_id,
    e.sensor_epoch,
    e.event_seq,
    e.event_time,
    e.event_boot_time_ns,
    e.cgroup_id,
    e.process_entity_id,
    e.process_exec_id,
    CASE e.event_action
        WHEN 1 THEN 'connection_attempted'
        WHEN 2 THEN 'connection_established'
        WHEN 3 THEN 'connection_failed'
        WHEN 4 THEN 'connection_progress'
        WHEN 5 THEN 'connection_closed'
    END AS event_action,
    e.connection_id,
    CASE e.network_transport WHEN 6 THEN 'tcp' WHEN 17 THEN 'udp' END AS network_transport,
    ip_value(e.destination_ip_hi, e.destination_ip_lo) AS destination_ip_value,
    e.destination_port,
    NULLIF(e.connection_error, -1) AS connection_error
FROM main.connections AS e;

-- Program images: who ran what, started by which image.
CREATE OR REPLACE VIEW hunt.bare_images AS
SELECT
    e.ingest_id,
    e.host_id,
    e.boot_id,
    e.sensor_epoch,
    e.event_seq,
    e.event_time,
    e.event_boot_time_ns,
    e.cgroup_id, -- at the exec
    e.process_entity_id,
    e.process_exec_id,
    e.process_parent_entity_id,
    e.process_parent_exec_id,
    e.process_name,
    e.process_executable,
    e.user_id
FROM main.process_execs AS e;

-- The cgroups that belong to a job of the policy, with the job's class and own path.
CREATE OR REPLACE VIEW hunt.job_cgroups AS
SELECT
    j.host_id,
    j.boot_id,
    j.cgroup_id,
    g.cgroup_path,
    j.job_class,
    j.job_cgroup_path
FROM main.policy_job_cgroups AS j
INNER JOIN main.cgroups AS g USING (host_id, boot_id, cgroup_id);

-- Alerts, in the order of raising.
CREATE OR REPLACE VIEW hunt.alerts AS
SELECT
    number,
    alert_id,
    raised_at,
    rule,
    rule_version,
    severity,
    attack,
    summary,
    event_time,
    host_id,
    boot_id,
    NULLIF(cgroup_id, 0) AS cgroup_id,
    cgroup_path,
    cgroup_ancestors,
    NULLIF(process_entity_id, 0) AS process_entity_id,
    NULLIF(process_exec_id, 0) AS process_exec_id,
    process_tree,
    evidence,
    simulated_device
FROM main.alerts;

-- Every time a rule's condition held, also where its alert was open already.
CREATE OR REPLACE VIEW hunt.signals AS
SELECT
    number,
    alert_id,
    rule,
    rule_version,
    severity,
    summary,
    event_time,
    host_id,
    boot_id,
    NULLIF(cgroup_id, 0) AS cgroup_id,
    cgroup_path,
    NULLIF(process_entity_id, 0) AS process_entity_id,
    NULLIF(process_exec_id, 0) AS process_exec_id,
    evidence,
    simulated_device
FROM main.signals;

-- Each rule that was ever loaded: how far it read and whether it works.
CREATE OR REPLACE VIEW hunt.rules AS
SELECT
    rule_id,
    rule,
    rule_version,
    watermark,
    rule_status,
    rule_error,
    updated_at
FROM main.rule_state;

-- One event, as rules name their evidence.
CREATE OR REPLACE MACRO evidence_id(kind_name, epoch, seq) AS
    struct_pack(kind := kind_name, sensor_epoch := epoch, event_seq := seq);
