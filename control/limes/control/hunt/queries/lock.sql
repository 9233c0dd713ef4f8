-- Runs on a snapshot before the hunt does: no file can be opened any more, no setting changed back.
SET GLOBAL disabled_filesystems = 'LocalFileSystem';
SET GLOBAL lock_configuration = true;
BEGIN TRANSACTION READ ONLY;
-- Loads what handing out rows loads, while that still can be loaded.
SELECT 1 AS ready;
