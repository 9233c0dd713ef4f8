"""The drill in a guest, the whole host watched through the fentry plan, once with each loader."""

import errno
import re
from pathlib import Path
from typing import Any

import pytest
from harness import vm
from harness.errors import HarnessError
from harness.scenario import Report, play

# The bcc loader compiles in the guest: about a minute under emulation.
pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.timeout(1800)]

DRILL_TIMEOUT_SECONDS = 600.0

# What the incident must raise, whatever addresses, ports and names its seed chose.
EXPECTED_RULES = {
    "cloud_metadata_access",
    "egress_to_unlisted_destination",
    "gpu_use_by_undeclared_program",
    "internal_probing",
    "miner_command_line",
    "ssh_tunnel_behaviour",
    "ssh_tunnel_command_line",
    "tunnel_or_pool_with_gpu",
}
AGENT_CGROUP = re.compile(r"/limes-drill-[0-9a-f]+/job_2")
# The signals that have a way by fentry; the others are raw tracepoints under each plan.
FENTRY_SIGNALS = ("connect_result", "gpu_ioctl")


@pytest.fixture(scope="session")
def outcomes() -> dict[str, Report | HarnessError]:
    """What each loader's drill came to; played once, in whatever order the tests run."""
    return {}


@pytest.fixture(params=["libbpf", "bcc"])
def report(
    request: pytest.FixtureRequest,
    prepared: vm.Prepared,
    limes_wheel: Path,
    outcomes: dict[str, Report | HarnessError],
) -> Report:
    """The drill's report with one loader, in a guest of its own."""
    loader: str = request.param
    if loader not in outcomes:
        try:
            with vm.boot(prepared) as guest:
                outcomes[loader] = play(guest, limes_wheel, loader, timeout=DRILL_TIMEOUT_SECONDS)
        except HarnessError as error:
            outcomes[loader] = error
    outcome = outcomes[loader]
    if isinstance(outcome, HarnessError):
        raise outcome
    return outcome


def words(event: dict[str, Any]) -> list[str]:
    """Return an exec event's arguments."""
    arguments: str = event["process_args"]
    return arguments.rstrip("\0").split("\0")


def test_the_drill_raises_exactly_what_it_should(report: Report) -> None:
    """Each expected alert once, under the cgroup that did it, and none from anybody else."""
    seen = sorted((alert.rule, alert.cgroup) for alert in report.result.alerts)
    assert seen == sorted((alert.rule, alert.cgroup) for alert in report.result.expected)
    assert [rule for rule, _ in seen] == sorted(EXPECTED_RULES)
    assert all(AGENT_CGROUP.fullmatch(cgroup) for _, cgroup in seen)
    assert len({cgroup for _, cgroup in seen}) == 1
    assert report.status == 0


def test_alerts_came_as_they_happened(report: Report) -> None:
    """The alerts printed during the drill are those of the result."""
    printed = sorted((alert["rule"], alert["cgroup"]) for alert in report.alerts)
    assert printed == sorted((alert.rule, alert.cgroup) for alert in report.result.alerts)


def test_the_plan_is_fentry_where_there_is_a_choice(report: Report) -> None:
    """Signals that have an fentry way took it, through the loader that was asked for."""
    for signal in FENTRY_SIGNALS:
        assert report.result.plan[signal].startswith(("fentry/", "fexit/")), signal
    assert report.result.plan["process_exec"] == "tp_btf/sched_process_exec"


def test_the_loader_is_the_one_asked_for(report: Report, request: pytest.FixtureRequest) -> None:
    """Nothing fell back to the other loader."""
    assert report.result.loader == request.node.callspec.params["report"]


def test_execs_carry_their_whole_command_line(report: Report) -> None:
    """The tunnel's exec is there with every argument, as long as the kernel says they are."""
    tunnels = [
        event
        for event in report.of_kind("process_execs")
        if words(event)[0].endswith("ssh") and "-R" in words(event)
    ]
    assert tunnels
    for event in tunnels:
        assert AGENT_CGROUP.fullmatch(event["cgroup_path"])
        assert event["process_executable"] == "/usr/bin/ssh"
        assert len("\0".join(words(event)).encode()) + 1 == event["process_args_bytes"]
        assert "@203.0.113." in words(event)[-1]


def test_connections_carry_their_result(report: Report) -> None:
    """The tunnel's connect succeeded, a probe's was refused, each under the agent's cgroup."""
    connections = [
        event
        for event in report.of_kind("connections")
        if AGENT_CGROUP.fullmatch(event["cgroup_path"])
    ]
    made = [event for event in connections if event["event_action"] == "connection_established"]
    assert any(event["destination_ip"].startswith("203.0.113.") for event in made)
    assert all(event["connection_error"] in {0, None} for event in made)
    failed = [event for event in connections if event["event_action"] == "connection_failed"]
    refused = [event for event in failed if event["connection_error"] == errno.ECONNREFUSED]
    assert any(event["destination_ip"].startswith("10.") for event in refused)


def test_gpu_activity_is_there_and_says_that_the_device_is_simulated(report: Report) -> None:
    """The trainer's, the agent's and the loaders' calls are counted, and never shown as a GPU's."""
    activity = report.of_kind("gpu_activity")
    cgroups = {event["cgroup_path"] for event in activity if event["gpu_calls"] > 0}
    assert {cgroup.rsplit("/", 1)[1] for cgroup in cgroups} == {"job_1", "job_2", "job_3"}
    for event in activity:
        assert event["gpu_device_simulated"] is True
        assert "simulated device" in event["gpu_device_name"]


def test_the_whole_host_was_watched(report: Report) -> None:
    """Unscoped, the sensor also saw what happened outside the drill's cgroups."""
    outside = [
        event
        for event in report.of_kind("process_execs")
        if not event["cgroup_path"].startswith("/limes-drill-")
    ]
    assert outside


def test_nothing_was_lost(report: Report) -> None:
    """A drill is far below what the rings hold: no loss of any cause."""
    assert report.of_kind("losses") == []
