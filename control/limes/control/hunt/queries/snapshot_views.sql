-- In a snapshot what a rule calls new is everything, so that a rule's file runs as a hunt.
CREATE VIEW new_process_execs AS FROM hunt.process_execs;
CREATE VIEW new_process_forks AS FROM hunt.process_forks;
CREATE VIEW new_process_exits AS FROM hunt.process_exits;
CREATE VIEW new_connections AS FROM hunt.connections;
CREATE VIEW new_gpu_events AS FROM hunt.gpu_events;
CREATE VIEW new_gpu_activity AS FROM hunt.gpu_activity;
CREATE VIEW new_cgroup_events AS FROM hunt.cgroup_events;
CREATE VIEW new_sensor_health AS FROM hunt.sensor_health;
CREATE VIEW new_sensor_hooks AS FROM hunt.sensor_hooks;
CREATE VIEW new_losses AS FROM hunt.losses;
CREATE VIEW new_signals AS FROM hunt.signals;
