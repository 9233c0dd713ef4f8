-- What rules read beside the events (the policy, as tables) and what they write.

-- One row a cgroup pattern of the policy; group 1 of the regex is the job's own path.
CREATE TABLE policy_jobs (
    job_class VARCHAR NOT NULL,
    position UINTEGER NOT NULL, -- order in the file: the first pattern that fits decides
    cgroup_pattern VARCHAR NOT NULL,
    cgroup_regex VARCHAR NOT NULL
);

-- Executables that may use GPUs in jobs of the class, they and what they start there.
CREATE TABLE policy_trainers (
    job_class VARCHAR NOT NULL,
    process_executable VARCHAR NOT NULL
);

-- Destinations a job of the class may connect to. Empty lists allow any port, any executable.
CREATE TABLE policy_allow (
    job_class VARCHAR NOT NULL,
    cidr VARCHAR NOT NULL,
    first_ip_value UHUGEINT NOT NULL,
    last_ip_value UHUGEINT NOT NULL,
    ports USMALLINT[] NOT NULL,
    executables VARCHAR[] NOT NULL
);

-- Networks that count as internal.
CREATE TABLE policy_internal (
    cidr VARCHAR NOT NULL,
    first_ip_value UHUGEINT NOT NULL,
    last_ip_value UHUGEINT NOT NULL
);

-- The cgroups that belong to a job: the job's own and everything below it. Kept by the rule engine.
CREATE TABLE policy_job_cgroups (
    host_id VARCHAR NOT NULL,
    boot_id VARCHAR NOT NULL,
    cgroup_id UBIGINT NOT NULL,
    job_class VARCHAR NOT NULL,
    job_cgroup_path VARCHAR NOT NULL,
    PRIMARY KEY (host_id, boot_id, cgroup_id)
);

-- One row a rule that was ever loaded: how far it read, and whether it works.
CREATE TABLE rule_state (
    rule_id VARCHAR PRIMARY KEY,
    rule VARCHAR NOT NULL,
    rule_version UINTEGER NOT NULL,
    watermark UBIGINT NOT NULL, -- last ingest_id (rules on signals: signal number) it has read
    rule_status VARCHAR NOT NULL, -- running or failing
    rule_error VARCHAR NOT NULL,
    updated_at TIMESTAMP NOT NULL
);

-- One row an alert, in the order of raising.
CREATE TABLE alerts (
    number UBIGINT NOT NULL,
    alert_id VARCHAR PRIMARY KEY,
    raised_at TIMESTAMP NOT NULL,
    rule_id VARCHAR NOT NULL,
    rule VARCHAR NOT NULL,
    rule_version UINTEGER NOT NULL,
    severity VARCHAR NOT NULL,
    attack VARCHAR[] NOT NULL,
    summary VARCHAR NOT NULL,
    event_time TIMESTAMP NOT NULL,
    host_id VARCHAR NOT NULL,
    boot_id VARCHAR NOT NULL,
    cgroup_id UBIGINT NOT NULL,
    cgroup_path VARCHAR NOT NULL,
    cgroup_ancestors VARCHAR[] NOT NULL,
    process_entity_id UBIGINT NOT NULL,
    process_exec_id UBIGINT NOT NULL,
    process_tree STRUCT(
        process_entity_id UBIGINT,
        process_exec_id UBIGINT,
        process_pid UINTEGER,
        process_executable VARCHAR,
        process_command_line VARCHAR
    )[] NOT NULL,
    evidence STRUCT(kind VARCHAR, sensor_epoch UBIGINT, event_seq UBIGINT)[] NOT NULL,
    simulated_device BOOLEAN NOT NULL,
    dedup_key VARCHAR NOT NULL
);

-- Every time a rule's condition held, also where an alert was open already: rules on signals read it.
-- One row for each rule, entity and image in five minutes.
CREATE TABLE signals (
    number UBIGINT NOT NULL,
    alert_id VARCHAR NOT NULL,
    rule_id VARCHAR NOT NULL,
    rule VARCHAR NOT NULL,
    rule_version UINTEGER NOT NULL,
    severity VARCHAR NOT NULL,
    summary VARCHAR NOT NULL,
    event_time TIMESTAMP NOT NULL,
    host_id VARCHAR NOT NULL,
    boot_id VARCHAR NOT NULL,
    cgroup_id UBIGINT NOT NULL,
    cgroup_path VARCHAR NOT NULL,
    process_entity_id UBIGINT NOT NULL,
    process_exec_id UBIGINT NOT NULL,
    evidence STRUCT(kind VARCHAR, sensor_epoch UBIGINT, event_seq UBIGINT)[] NOT NULL,
    simulated_device BOOLEAN NOT NULL,
    dedup_key VARCHAR NOT NULL
);
