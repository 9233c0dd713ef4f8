"""Cgroup paths as the runtimes make them, and what they say."""

from typing import Any

import pytest
from limes.sensor.attribution import Labels, labels

ID = "4f0c9c0d7a4c3e5b8f3a2d1e0c9b8a7f6e5d4c3b2a1908f7e6d5c4b3a2918070"
POD = "1b9ea2f3-6c1d-4f4e-9a3a-2f7a5d0e8c11"
POD_ = POD.replace("-", "_")
BURSTABLE = f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{POD_}.slice"


def container(runtime: str, **more: Any) -> Labels:
    return Labels(container_id=ID, container_runtime=runtime, **more)


CASES = {
    "docker, systemd driver": (
        f"/system.slice/docker-{ID}.scope",
        container("docker", systemd_unit=f"docker-{ID}.scope"),
    ),
    "docker, cgroupfs driver": (f"/docker/{ID}", container("docker")),
    "docker, below it": (f"/docker/{ID}/init", container("docker")),
    "docker in docker": (f"/docker/{'0' * 64}/docker/{ID}", container("docker")),
    "containerd under Kubernetes, systemd driver": (
        f"{BURSTABLE}/cri-containerd-{ID}.scope",
        container("containerd", kubernetes_pod_uid=POD, systemd_unit=f"cri-containerd-{ID}.scope"),
    ),
    "guaranteed pod": (
        f"/kubepods.slice/kubepods-pod{POD_}.slice/cri-containerd-{ID}.scope",
        container("containerd", kubernetes_pod_uid=POD, systemd_unit=f"cri-containerd-{ID}.scope"),
    ),
    "Kubernetes, cgroupfs driver: the runtime is not in the path": (
        f"/kubepods/besteffort/pod{POD}/{ID}",
        container("", kubernetes_pod_uid=POD),
    ),
    "static pod": (
        f"/kubepods/burstable/pod{'ab' * 16}/{ID}",
        container("", kubernetes_pod_uid="ab" * 16),
    ),
    "containerd with drivers at odds": (
        f"/system.slice/containerd.service/kubepods-besteffort-pod{POD_}.slice:cri-containerd:{ID}",
        container("containerd", systemd_unit="containerd.service"),
    ),
    "containerd, cgroupfs": (f"/k8s.io/{ID}", container("containerd")),
    "nerdctl": (
        f"/system.slice/nerdctl-{ID}.scope",
        container("containerd", systemd_unit=f"nerdctl-{ID}.scope"),
    ),
    "cri-o, systemd driver": (
        f"/kubepods.slice/kubepods-pod{POD_}.slice/crio-{ID}.scope/container",
        container("cri-o", kubernetes_pod_uid=POD, systemd_unit=f"crio-{ID}.scope"),
    ),
    "cri-o, cgroupfs driver": (
        f"/kubepods/pod{POD}/crio-{ID}",
        container("cri-o", kubernetes_pod_uid=POD),
    ),
    "cri-o's monitor is not the container": (
        f"/kubepods.slice/kubepods-pod{POD_}.slice/crio-conmon-{ID}.scope",
        Labels(kubernetes_pod_uid=POD, systemd_unit=f"crio-conmon-{ID}.scope"),
    ),
    "podman": (
        f"/machine.slice/libpod-{ID}.scope/container",
        container("podman", systemd_unit=f"libpod-{ID}.scope"),
    ),
    "podman, rootless": (
        f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container",
        container("podman", systemd_unit=f"libpod-{ID}.scope"),
    ),
    "podman, cgroupfs": (f"/libpod_parent/libpod-{ID}", container("podman")),
    "Slurm, cgroup v2": (
        "/system.slice/slurmstepd.scope/job_4711/step_0/user/task_3",
        Labels(slurm_job_id="4711", slurm_step_id="0", systemd_unit="slurmstepd.scope"),
    ),
    "Slurm, several daemons": (
        "/system.slice/node7_slurmstepd.scope/job_4711/step_batch/user/task_0",
        Labels(slurm_job_id="4711", slurm_step_id="batch", systemd_unit="node7_slurmstepd.scope"),
    ),
    "Slurm, as v1 laid it out": (
        "/slurm/uid_1000/job_12/step_extern",
        Labels(slurm_job_id="12", slurm_step_id="extern"),
    ),
    "a container in a Slurm step": (
        f"/system.slice/slurmstepd.scope/job_5/step_0/user/task_0/libpod-{ID}",
        container("podman", slurm_job_id="5", slurm_step_id="0", systemd_unit="slurmstepd.scope"),
    ),
    "systemd service": ("/system.slice/ssh.service", Labels(systemd_unit="ssh.service")),
    "systemd user unit": (
        "/user.slice/user-1000.slice/user@1000.service/app.slice/jupyter.service",
        Labels(systemd_unit="jupyter.service"),
    ),
    "systemd escapes a name that looks like a controller's file": (
        "/system.slice/_cpu.service",
        Labels(systemd_unit="cpu.service"),
    ),
    "root": ("/", Labels()),
    # Near misses: nothing is guessed.
    "job_ without Slurm above it": ("/limes-drill-7/job_1", Labels()),
    "63 digits": (f"/docker/{ID[1:]}", Labels()),
    "no hexadecimal": (f"/docker/{'g' * 64}", Labels()),
    "podium is no pod": (f"/podium-{POD}/x", Labels()),
    "step without a job": ("/slurm/step_0", Labels()),
}


@pytest.mark.parametrize(("path", "expected"), CASES.values(), ids=CASES.keys())
def test_path_says(path: str, expected: Any) -> None:
    """Each label as the runtime's own layout has it."""
    assert labels(path) == expected
