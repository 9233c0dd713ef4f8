-- The alert of the same rule, version and entity that an event at $5 still belongs to.
SELECT alert_id, event_time
FROM alerts
WHERE rule_id = $1
    AND rule_version = $2
    AND host_id = $3
    AND dedup_key = $4
    AND event_time > $5::TIMESTAMP - to_seconds($6)
    AND event_time < $5::TIMESTAMP + to_seconds($6)
ORDER BY number DESC
LIMIT 1;
