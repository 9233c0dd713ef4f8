-- Records how far a rule has read and whether it works.
INSERT INTO rule_state (rule_id, rule, rule_version, watermark, rule_status, rule_error, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (rule_id) DO UPDATE SET
    rule = excluded.rule,
    rule_version = excluded.rule_version,
    watermark = excluded.watermark,
    rule_status = excluded.rule_status,
    rule_error = excluded.rule_error,
    updated_at = excluded.updated_at;
