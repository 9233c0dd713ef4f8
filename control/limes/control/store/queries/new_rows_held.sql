-- Adds the rows of earlier commits that were held back.
INSERT INTO new_{kind}
SELECT h.*
FROM hunt.{kind} AS h
WHERE h.ingest_id >= $1
    AND h.ingest_id <= $2
    AND (h.host_id, h.boot_id, h.sensor_epoch, h.event_seq) IN (
        SELECT (b.host_id, b.boot_id, b.sensor_epoch, b.event_seq)
        FROM held_{kind} AS b
    );
