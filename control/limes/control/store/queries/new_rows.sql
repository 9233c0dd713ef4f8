-- Takes the rows of a range of commits to work.
CREATE OR REPLACE TEMP TABLE new_{kind} AS
SELECT *
FROM hunt.{kind}
WHERE ingest_id > $1 AND ingest_id <= $2;
