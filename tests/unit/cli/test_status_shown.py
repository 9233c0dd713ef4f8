"""The status as a person sees it."""

import pytest
from limes.cli.output import Form
from limes.cli.show.status import plain, show_status
from limes.v1 import admin_service_pb2 as pb


def status(**members: object) -> pb.GetStatusResponse:
    found = pb.GetStatusResponse(version="1", database="/db", last_ingest_id=7, **members)  # type: ignore[arg-type]
    found.sensors.add(host_id="gpu-07", epoch=1_772_336_400_000_000_000, connected=True)
    found.rules.add(rule="some_rule", version=2, error="no such column")
    return found


def test_what_rules_have_not_read_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """An alert may be missing only because it is not there yet."""
    show_status(status(rules_ingest_id=6), Form.TABLE)
    assert "rules have not yet read all of them" in capsys.readouterr().out
    show_status(status(rules_ingest_id=7), Form.TABLE)
    assert "rules have read all of them" in capsys.readouterr().out


def test_a_disk_that_fills_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """In plain words, without markup, and only then."""
    show_status(status(disk_low=True, disk_free_bytes=300 << 20), Form.TABLE)
    assert "Only 300 MiB are free where the database lies" in capsys.readouterr().out
    show_status(status(), Form.TABLE)
    assert "MiB" not in capsys.readouterr().out


def test_sensors_and_failing_rules_are_there(capsys: pytest.CaptureFixture[str]) -> None:
    """With when each began, and why it fails."""
    show_status(status(), Form.TABLE)
    out = capsys.readouterr().out
    assert "2026-03-01 03:40:00Z" in out
    assert "no such column" in out


def test_json_has_every_field() -> None:
    """A new field of the server's answer cannot be forgotten."""
    assert set(plain(status())) == {field.name for field in pb.GetStatusResponse.DESCRIPTOR.fields}
