-- The alert of the same rule, version and entity that an event at $5 still belongs to.
SELECT alert_id
FROM alerts
WHERE rule_id = $1
    AND rule_version = $2
    AND host_id = $3
    AND dedup_key = $4
    AND abs(epoch_us(event_time) - epoch_us($5::TIMESTAMP)) < $6 * 1000000
ORDER BY number DESC
LIMIT 1;
