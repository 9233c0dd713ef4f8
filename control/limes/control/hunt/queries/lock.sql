-- Runs on a snapshot before the hunt does: no file can be opened any more, no setting changed back.
SET GLOBAL disabled_filesystems = 'LocalFileSystem';
SET GLOBAL lock_configuration = true;
BEGIN TRANSACTION READ ONLY;
-- A rehearsal: sending this row loads all that sending any row needs, while it still can be loaded.
SELECT
    1::HUGEINT AS wide,
    [1::UHUGEINT] AS wide_list,
    {'a': true, 'b': 1.5::DECIMAL(10, 2)} AS struct,
    MAP {'a': 'b'} AS map,
    uuid() AS uuid,
    '{}'::JSON AS json,
    now() AS instant,
    INTERVAL 1 DAY AS span,
    'x'::BLOB AS bytes;
