-- Moves the place of rules that work.
UPDATE rule_state
SET watermark = $1, updated_at = $2
WHERE list_contains($3, rule_id);
