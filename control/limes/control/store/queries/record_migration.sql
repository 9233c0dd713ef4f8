-- Records a migration in its own transaction.
INSERT INTO schema_migrations (name, checksum, applied_at)
VALUES ($1, $2, current_localtimestamp());
