-- How far each rule has read.
SELECT rule_id, rule_version, watermark, rule_status, rule_error
FROM rule_state;
