-- Alerts after a number, in the order of raising.
SELECT
    number, alert_id, raised_at, rule_id, rule, rule_version, severity, attack, summary, event_time,
    host_id, boot_id, cgroup_id, cgroup_path, cgroup_ancestors, process_entity_id, process_exec_id,
    process_tree, evidence, simulated_device, dedup_key
FROM alerts
WHERE number > $1 AND ($2 = '' OR alert_id = $2)
ORDER BY number
LIMIT $3;
