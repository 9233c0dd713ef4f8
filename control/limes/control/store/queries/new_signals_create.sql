-- The signals at work, as rules on signals read them.
CREATE OR REPLACE TEMP TABLE new_signals AS
SELECT *
FROM hunt.signals
LIMIT 0;
