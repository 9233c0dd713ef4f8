-- Alerts of each rule since a time.
SELECT rule, count(*)
FROM alerts
WHERE raised_at >= $1
GROUP BY rule;
