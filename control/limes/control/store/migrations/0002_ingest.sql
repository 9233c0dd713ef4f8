-- What ingest keeps beside the events: the log of batches, the sensors, the cgroups, the images.

-- Rules and hunts read this schema only.
CREATE SCHEMA hunt;

-- One row a batch or declared gap, committed with it. For each host, boot and epoch the ranges
-- first_seq..last_seq tile 1..last without holes or overlaps: this is the de-duplication.
CREATE TABLE batch_log (
    ingest_id UBIGINT NOT NULL,
    event_ingested TIMESTAMP NOT NULL,
    host_id VARCHAR NOT NULL,
    boot_id VARCHAR NOT NULL,
    sensor_epoch UBIGINT NOT NULL,
    first_seq UBIGINT NOT NULL,
    last_seq UBIGINT NOT NULL,
    event_kind UTINYINT NOT NULL,  -- number of the kind; 0 for a gap
    batch_outcome VARCHAR NOT NULL -- stored, gap or malformed (the last two have a row in losses)
);

-- One row for each start of a sensor that ever opened a stream.
CREATE TABLE sensors (
    host_id VARCHAR NOT NULL,
    boot_id VARCHAR NOT NULL,
    sensor_epoch UBIGINT NOT NULL,
    sensor_version VARCHAR NOT NULL,
    kernel_release VARCHAR NOT NULL,
    abi_version UINTEGER NOT NULL,
    first_connected TIMESTAMP NOT NULL,
    last_connected TIMESTAMP NOT NULL,
    PRIMARY KEY (host_id, boot_id, sensor_epoch)
);

-- One row for each cgroup a sensor named: what a cgroup_id stands for. Kernel ids are not used again
-- within a boot, so the first path stays.
CREATE TABLE cgroups (
    host_id VARCHAR NOT NULL,
    boot_id VARCHAR NOT NULL,
    cgroup_id UBIGINT NOT NULL,
    cgroup_path VARCHAR NOT NULL,
    cgroup_level UINTEGER NOT NULL,
    container_id VARCHAR NOT NULL,
    container_runtime VARCHAR NOT NULL,
    kubernetes_pod_uid VARCHAR NOT NULL,
    slurm_job_id VARCHAR NOT NULL,
    slurm_step_id VARCHAR NOT NULL,
    systemd_unit VARCHAR NOT NULL,
    first_seen TIMESTAMP NOT NULL,
    PRIMARY KEY (host_id, boot_id, cgroup_id)
);

-- One row for each program image a sensor named: what a process_exec_id stands for. The first exec
-- stays, so that no sensor can make the views repeat an event by telling an image twice.
CREATE TABLE process_images (
    host_id VARCHAR NOT NULL,
    process_exec_id UBIGINT NOT NULL,
    process_parent_entity_id UBIGINT NOT NULL,
    process_parent_exec_id UBIGINT NOT NULL,
    process_name VARCHAR NOT NULL,
    process_executable VARCHAR NOT NULL,
    process_args VARCHAR NOT NULL,
    user_id UINTEGER NOT NULL,
    PRIMARY KEY (host_id, process_exec_id)
);
