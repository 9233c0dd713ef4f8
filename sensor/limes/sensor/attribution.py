"""What a cgroup path says: container, runtime, pod, Slurm job and step, systemd unit.

Invariant: a label is empty when the path does not say it; nothing is guessed.
"""

import functools
import re
from typing import Final, NamedTuple


class Labels(NamedTuple):
    """Labels of one cgroup path, named like the columns of cgroup_events; empty when absent."""

    container_id: str = ""
    container_runtime: str = ""
    kubernetes_pod_uid: str = ""
    slurm_job_id: str = ""
    slurm_step_id: str = ""
    systemd_unit: str = ""


_ID: Final = r"(?P<id>[0-9a-f]{64})"
# The component's shape names the runtime, in the systemd form (NAME-ID.scope) or the cgroupfs form.
_BY_SHAPE: Final = (
    (re.compile(rf"docker-{_ID}\.scope"), "docker"),
    (re.compile(rf"cri-containerd-{_ID}\.scope"), "containerd"),
    (re.compile(rf"nerdctl-{_ID}\.scope"), "containerd"),
    # containerd with the systemd driver off in runc but on in the kubelet: slice:cri-containerd:ID.
    (re.compile(rf"[^:]+:cri-containerd:{_ID}"), "containerd"),
    (re.compile(rf"crio-{_ID}(\.scope)?"), "cri-o"),
    (re.compile(rf"libpod-{_ID}(\.scope)?"), "podman"),
)
_BARE: Final = re.compile(_ID)
_BY_PARENT: Final = {"docker": "docker", "k8s.io": "containerd", "moby": "docker"}
_POD: Final = re.compile(
    r"(?:^|-)pod(?P<uid>[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?$"
)
_SLURM_JOB: Final = re.compile(r"job_(\d+)")
_SLURM_STEP: Final = re.compile(r"step_(\d+|batch|extern|interactive)")
_UNIT: Final = re.compile(r"_?(.+\.(?:service|scope|slice|socket|mount|swap))")


def _container(components: list[str]) -> tuple[str, str]:
    """Id and runtime of the innermost container."""
    for index in range(len(components) - 1, -1, -1):
        component = components[index]
        for pattern, runtime in _BY_SHAPE:
            if found := pattern.fullmatch(component):
                return found["id"], runtime
        if _BARE.fullmatch(component):
            parent = components[index - 1] if index else ""
            return component, _BY_PARENT.get(parent, "")
    return "", ""


def _slurm(components: list[str]) -> tuple[str, str]:
    """Job and step below a component that belongs to Slurm."""
    job = step = ""
    below_slurm = False
    for component in components:
        if "slurm" in component:
            below_slurm = True
        elif below_slurm and (found := _SLURM_JOB.fullmatch(component)):
            job = found[1]
        elif job and (found := _SLURM_STEP.fullmatch(component)):
            step = found[1]
    return job, step


@functools.lru_cache(maxsize=4096)
def labels(path: str) -> Labels:
    """Labels of a cgroup path, such as /system.slice/docker-<id>.scope."""
    components = [component for component in path.split("/") if component]
    container_id, runtime = _container(components)
    pods = [found["uid"] for component in components if (found := _POD.search(component))]
    units = [found[1] for component in components if (found := _UNIT.fullmatch(component))]
    job, step = _slurm(components)
    return Labels(
        container_id=container_id,
        container_runtime=runtime,
        kubernetes_pod_uid=pods[-1].replace("_", "-") if pods else "",
        slurm_job_id=job,
        slurm_step_id=step,
        systemd_unit=units[-1] if units else "",
    )
