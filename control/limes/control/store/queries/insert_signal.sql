-- Records that a rule's condition held, unless it did for the same entity and image shortly before.
INSERT INTO signals (
    number, alert_id, rule_id, rule, rule_version, severity, summary, event_time, host_id, boot_id,
    cgroup_id, cgroup_path, process_entity_id, process_exec_id, evidence, simulated_device, dedup_key
)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17
WHERE NOT EXISTS (
    SELECT 1
    FROM signals AS s
    WHERE s.rule_id = $3
        AND s.rule_version = $5
        AND s.host_id = $9
        AND s.process_exec_id = $14
        AND s.dedup_key = $17
        AND s.event_time > $8::TIMESTAMP - INTERVAL 5 MINUTES
        AND s.event_time < $8::TIMESTAMP + INTERVAL 5 MINUTES
)
RETURNING number;
