"""The policy text and the expected alerts."""

import tomllib
from pathlib import Path
from typing import Any

from limes.drill.plan import DrillPlan, Endpoint
from limes.drill.policy import AGENT_RULES, ExpectedAlert, expected_alerts, policy_text

FORGE = Endpoint(address="198.51.100.7", port=2222)


def _policy(trainer: str = "/srv/trainer/python3.11") -> dict[str, Any]:
    text = policy_text(
        cgroup_path="/limes-drill-ab12cd34",
        trainer=Path(trainer),
        ssh=Path("/usr/bin/ssh"),
        forge=FORGE,
    )
    return tomllib.loads(text)


def test_the_policy_is_one_class_with_one_allowed_destination() -> None:
    """The documented format, and only the forge is allowed."""
    assert _policy() == {
        "job_class": [
            {
                "name": "training",
                "cgroups": ["/limes-drill-ab12cd34/job_*"],
                "trainers": ["/srv/trainer/python3.11"],
                "allow": [
                    {"cidr": "198.51.100.7/32", "ports": [2222], "executables": ["/usr/bin/ssh"]}
                ],
            }
        ]
    }


def test_a_path_with_quotes_survives() -> None:
    """A state directory may have any name."""
    odd = '/srv/a "b" \\c/python3.11'
    assert _policy(odd)["job_class"][0]["trainers"] == [odd]


def test_the_policy_names_nothing_that_the_agent_uses() -> None:
    """Neither relay nor pool nor any probed address is allowed."""
    plan = DrillPlan.from_seed(5)
    text = policy_text(
        cgroup_path="/limes-drill-ab12cd34",
        trainer=Path("/srv/python3.11"),
        ssh=Path("/usr/bin/ssh"),
        forge=plan.forge,
    )
    used = {plan.relay.address, plan.pool.address, *(end.address for end in plan.refused)}
    assert not any(address in text for address in used)


def test_all_expected_alerts_are_of_the_agents_job() -> None:
    """The trainer and the benign job stay quiet."""
    alerts = expected_alerts("/limes-drill-ab12cd34")
    assert {alert.cgroup for alert in alerts} == {"/limes-drill-ab12cd34/job_2"}
    assert len(set(alerts)) == len(AGENT_RULES) == 8
    chain = ExpectedAlert(rule="tunnel_or_pool_with_gpu", cgroup="/limes-drill-ab12cd34/job_2")
    assert chain in alerts
