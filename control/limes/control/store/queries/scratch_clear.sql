-- Empties what is kept beside the events, in a scratch database.
DELETE FROM batch_log;
DELETE FROM cgroups;
DELETE FROM process_images;
DELETE FROM policy_job_cgroups;
DELETE FROM rule_state;
DELETE FROM alerts;
DELETE FROM signals;
