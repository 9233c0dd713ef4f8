"""Owns what a fitting policy says and which alerts the drill must cause, and no others.

Invariant: the policy names what is allowed; nothing that the agent does is named in it.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from limes.drill.plan import Endpoint

AGENT_RULES = (
    "cloud_metadata_access",
    "egress_to_unlisted_destination",
    "gpu_use_by_undeclared_program",
    "internal_probing",
    "miner_command_line",
    "ssh_tunnel_behaviour",
    "ssh_tunnel_command_line",
    "tunnel_or_pool_with_gpu",
)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ExpectedAlert:
    """One (rule, cgroup) pair that must alert; `cgroup` is the path below the cgroup2 root."""

    rule: str
    cgroup: str


def expected_alerts(cgroup_path: str) -> tuple[ExpectedAlert, ...]:
    """Return the exact set of alerts of a whole play: all of the agent's job, none of others."""
    return tuple(ExpectedAlert(rule=rule, cgroup=f"{cgroup_path}/job_2") for rule in AGENT_RULES)


def policy_text(*, cgroup_path: str, trainer: Path, ssh: Path, forge: Endpoint) -> str:
    """Return the TOML text of a policy file for the drill's jobs."""
    # A JSON string is a TOML basic string.
    return "\n".join(
        (
            "[[job_class]]",
            'name = "training"',
            f"cgroups = [{json.dumps(cgroup_path + '/job_*')}]",
            f"trainers = [{json.dumps(str(trainer))}]",
            "",
            "[[job_class.allow]]",
            f"cidr = {json.dumps(forge.address + '/32')}",
            f"ports = [{forge.port}]",
            f"executables = [{json.dumps(str(ssh))}]",
            "",
        )
    )
