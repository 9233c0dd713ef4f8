-- Empties the table of a kind, in a scratch database.
DELETE FROM {kind};
