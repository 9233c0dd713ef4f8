-- Raises an alert, once.
INSERT INTO alerts (
    number, alert_id, raised_at, rule_id, rule, rule_version, severity, attack, summary, event_time,
    host_id, boot_id, cgroup_id, cgroup_path, cgroup_ancestors, process_entity_id, process_exec_id,
    process_tree, evidence, simulated_device, dedup_key
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)
ON CONFLICT DO NOTHING
RETURNING number;
