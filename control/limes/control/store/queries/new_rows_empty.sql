-- The table that rules read new rows of a kind from, without rows.
CREATE OR REPLACE TEMP TABLE new_{kind} AS
SELECT *
FROM hunt.{kind}
LIMIT 0;
