-- Remembers that a sensor opened a stream.
INSERT INTO sensors (
    host_id, boot_id, sensor_epoch, sensor_version, kernel_release, abi_version,
    first_connected, last_connected
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $7)
ON CONFLICT (host_id, boot_id, sensor_epoch) DO UPDATE SET
    sensor_version = excluded.sensor_version,
    kernel_release = excluded.kernel_release,
    abi_version = excluded.abi_version,
    last_connected = excluded.last_connected;
