"""Owns how the control plane's status looks.

Invariant: in JSON it is one object with everything the server said.
"""

from datetime import UTC, datetime
from typing import Any

from limes.cli.output import Form, console, show, write_json
from limes.v1 import admin_service_pb2 as pb
from rich.text import Text


def show_status(status: pb.GetStatusResponse, form: Form) -> None:
    """Show store, sensors and rules."""
    found = plain(status)
    if form is Form.JSON:
        write_json(found)
        return
    read = "read" if status.rules_ingest_id >= status.last_ingest_id else "not yet read"
    console().print(
        f"limes {found['version']}, database {found['database']} (schema "
        f"{found['schema_version']})\n{found['events_committed']} events committed since it "
        f"started, rules have {read} all of them; {found['batches_duplicate']} duplicate and "
        f"{found['batches_malformed']} malformed batches, {found['rewinds']} rewinds"
    )
    if status.disk_low:
        text = (
            f"Only {status.disk_free_bytes >> 20} MiB are free where the database lies: make room "
            "before it is full and the control plane stops."
        )
        console().print(Text(text, "bold red"))
    sensors = [
        {
            **row,
            "started": _moment(datetime.fromtimestamp(row["epoch"] / 1e9, UTC)),
            "last_seen": _moment(datetime.fromisoformat(row["last_seen"])),
        }
        for row in found["sensors"]
    ]
    show(sensors, ("host_id", "connected", "started", "last_seen", "last_seq", "lost"), form)
    show(found["rules"], ("rule", "version", "alerts", "error"), form)


def _moment(value: datetime) -> str:
    """Return a time (UTC) as people read it."""
    return f"{value:%Y-%m-%d %H:%M:%SZ}"


def plain(status: pb.GetStatusResponse) -> dict[str, Any]:
    """Return the status as values."""
    names = [field.name for field in status.DESCRIPTOR.fields]
    found = {name: getattr(status, name) for name in names if name not in ("sensors", "rules")}
    found["sensors"] = [
        {
            "host_id": sensor.host_id,
            "boot_id": sensor.boot_id,
            "epoch": sensor.epoch,
            "connected": sensor.connected,
            "last_seen": sensor.last_seen.ToDatetime(UTC).isoformat(timespec="seconds"),
            "last_seq": sensor.last_seq,
            "lost": sensor.lost,
        }
        for sensor in status.sensors
    ]
    found["rules"] = [
        {"rule": rule.rule, "version": rule.version, "alerts": rule.alerts, "error": rule.error}
        for rule in status.rules
    ]
    return found
