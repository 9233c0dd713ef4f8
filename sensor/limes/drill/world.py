"""Owns a drill's world from the first cgroup to the last file removed.

Invariant: whatever ends the drill (end, error, Ctrl-C, SIGTERM, SIGHUP) ends every process it
started and removes everything it made; what a SIGKILL leaves, the next drill clears.
"""

import atexit
import json
import os
import secrets
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from limes.drill import cgroups, registry, ssh
from limes.drill.errors import NotPermitted, WorldError
from limes.drill.gpu import GpuNode, call_tables, make_node
from limes.drill.networks import Networks
from limes.drill.plan import DrillPlan
from limes.drill.policy import ExpectedAlert, expected_alerts, policy_text
from limes.drill.processes import DEADLINE, Actor, Company, Place
from limes.drill.steps import Play, Step
from limes.drill.tools import Tools, find

DEFAULT_STATE_DIR = Path("/var/lib/limes/drill")

_ACTORS = Path(__file__).with_name("actors")
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the place such programs choose
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class DrillWorld:
    """One drill: its cgroups, namespaces, servers, simulated GPU, and the play in it.

    Make it with `create`; use it as a context manager or call `close`.
    """

    def __init__(self, *, plan: DrillPlan, tools: Tools, root: Path, state_dir: Path) -> None:
        """Name everything; make nothing."""
        self.plan = plan
        self.tools = tools
        self.ident = secrets.token_hex(4)
        self.directory = state_dir / f"{cgroups.PREFIX}{self.ident}"
        self.hideout = _hideout(self.directory, self.ident)
        self.cgroup, self.outside_cgroup = cgroups.paths(root, self.ident)
        self.gpu_nodes: list[GpuNode] = []
        self.trainer = self.directory / "trainer" / self.tools.python.name
        self.company = Company(self.directory / "log")
        self.outsiders: dict[str, Actor] = {}
        self.logins: dict[str, ssh.Login] = {}
        self._root = root
        self._networks: Networks | None = None
        self._made_parents: list[Path] = []
        self._caught: list[signal.Signals] = []
        self._closed = False

    @classmethod
    def create(cls, seed: int | None = None, state_dir: Path = DEFAULT_STATE_DIR) -> Self:
        """Clear what crashed drills left, make a new world and return it.

        Raises DrillError; then nothing of the new world is left.
        """
        if os.geteuid() != 0:
            raise NotPermitted(
                f"A drill makes cgroups, namespaces and a device node, which needs root; "
                f"this is uid {os.geteuid()}. Run it as root"
            )
        state_dir = state_dir.resolve()
        if state_dir.is_relative_to("/run"):
            raise NotPermitted(
                f"State directory {state_dir} lies in /run, which holds no device nodes and is "
                "hidden from the drill's sshd. Choose another"
            )
        root = cgroups.find_root()
        tools = find()
        registry.sweep(root, DEADLINE)
        world = cls(plan=DrillPlan.from_seed(seed), tools=tools, root=root, state_dir=state_dir)
        atexit.register(world.close)
        world._catch_signals()
        try:
            world._make()
        except BaseException:
            world.close()
            raise
        return world

    @property
    def seed(self) -> int:
        """Return the seed that gives the same plan again."""
        return self.plan.seed

    @property
    def cgroup_path(self) -> str:
        """Return the cgroup's path below the cgroup2 root, as a sensor reports it."""
        return "/" + self.cgroup.relative_to(self._root).as_posix()

    def policy_toml(self) -> str:
        """Return the text of a policy file that fits this world."""
        return policy_text(
            cgroup_path=self.cgroup_path,
            trainer=self.trainer,
            ssh=self.tools.ssh,
            forge=self.plan.forge,
        )

    def expected(self) -> tuple[ExpectedAlert, ...]:
        """Return the exact set of alerts that a whole play must cause."""
        return expected_alerts(self.cgroup_path)

    def step_names(self) -> tuple[str, ...]:
        """Return the names of the steps that a whole play has, in order."""
        return Play(self).names()

    def play(self, on_step: Callable[[Step], object] = lambda _: None) -> tuple[Step, ...]:
        """Run all steps and return them; raises StepFailed when one does not reach its end.

        `on_step` is called as each step begins; the step's `truth` is filled when it has ended.
        """
        return Play(self).run(on_step)

    def job(self, name: str) -> Place:
        """Return where the processes of a job run."""
        return Place(cgroup=self.cgroup / name, network=self._network(name))

    def outside(self, name: str, *, accounts: bool = False) -> Place:
        """Return where the processes of an outside namespace run."""
        return Place(
            cgroup=self.outside_cgroup,
            network=self._network(name),
            accounts=self.directory / "accounts" if accounts else None,
        )

    def close(self) -> None:
        """End every process and remove everything; raises WorldError naming what stayed."""
        with _undisturbed():
            if self._closed:
                return
            self._closed = True
            try:
                registry.clear(self._root, self.ident, (self.directory, self.hideout), DEADLINE)
                self.company.forget()
            except OSError as error:
                raise WorldError(
                    f"Cleared drill {self.ident}: {error}. Remove what stayed by its name"
                ) from error
            finally:
                atexit.unregister(self.close)
        self._release_signals()
        for parent in self._made_parents:
            try:
                parent.rmdir()
            except OSError:
                break  # another drill's world lies there

    def __enter__(self) -> Self:
        """Return the world."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the world."""
        self.close()

    def _network(self, name: str) -> str:
        if self._networks is None:
            raise AssertionError
        return self._networks.path(name)

    def _make(self) -> None:
        try:
            self._make_directories()
            cgroups.make(self._root, self.ident)
            self._make_programs()
            self.gpu_nodes.append(make_node(self.directory / "dev" / "nvidia0"))
            self._networks = Networks(self.company, self.outside_cgroup, str(self.tools.ip))
            self._networks.wire(self.plan)
            self._make_outside()
        except OSError as error:
            raise WorldError(
                f"Made the world of drill {self.ident}: {error}. "
                f"Needs room and write access in {self.directory.parent}"
            ) from error

    def _make_directories(self) -> None:
        registry.write(self.ident, (self.directory, self.hideout))
        above = (self.directory.parent, *self.directory.parent.parents)
        self._made_parents = [parent for parent in above if not parent.exists()]
        self.directory.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.directory.mkdir(mode=0o700)
        for name in ("dev", "log", "trainer", *cgroups.JOBS):
            (self.directory / name).mkdir()
        if self.hideout != self.directory:
            self.hideout.mkdir(mode=0o700)

    def _make_programs(self) -> None:
        shutil.copy2(self.tools.python, self.trainer)
        trainer = self.company.run(
            "trainer-check",
            [str(self.trainer), "-S", "-c", "import json, socket, subprocess"],
            Place(cgroup=self.outside_cgroup),
            env=self.python_environment(),
        )
        if trainer.running():
            raise AssertionError
        for job, names in {"job_1": ("train",), "job_2": _TOOLS, "job_3": ("train",)}.items():
            for name in names:
                shutil.copy(_ACTORS / f"{name}.py", self.directory / job)
        settings = {
            **call_tables(),
            "node": str(self.directory / "dev" / "nvidia0"),
            "python": str(self.tools.python),
            "address": self.plan.rendezvous.address,
            "port": self.plan.rendezvous.port,
            "count": self.plan.pool_calls,
        }
        for job in cgroups.JOBS:
            (self.directory / job / "settings.json").write_text(json.dumps(settings))

    def _make_outside(self) -> None:
        ssh.write_accounts(self.directory / "accounts", ["git", self.plan.relay_user])
        repository = self.directory / "repository.git"
        ssh.make_repository(repository, self.tools, self.plan.project)
        relay, forge = self.directory / "relay", self.directory / "forge"
        self.logins["relay"] = ssh.prepare_relay(relay, self.tools, self.plan)
        self.logins["forge"] = ssh.prepare_forge(forge, self.tools, self.plan, repository)
        place = self.outside("external", accounts=True)
        for name, directory in (("relay", relay), ("forge", forge)):
            self.outsiders[name] = ssh.serve(
                f"sshd-{name}",
                directory,
                self.logins[name],
                company=self.company,
                place=place,
                tools=self.tools,
            )
        self._serve("pool", "external", [f"stratum={self.plan.pool}"])
        self._serve(
            "internal",
            "internal",
            [f"http={end}" for end in (self.plan.metadata, *self.plan.services)],
        )

    def _serve(self, name: str, network: str, services: list[str]) -> None:
        actor = self.company.start(
            name, self.outside_argv("serve", *services), self.outside(network)
        )
        actor.hear()
        self.outsiders[name] = actor

    def outside_argv(self, *arguments: str) -> list[str]:
        """Return the command line of the outside world's program."""
        return [sys.executable, "-I", "-S", "-B", str(_ACTORS / "outside.py"), *arguments]

    def python_environment(self) -> dict[str, str]:
        """Return what a copied interpreter needs to find its library."""
        return {"PYTHONHOME": sys.base_prefix, "PYTHONDONTWRITEBYTECODE": "1"}

    def _catch_signals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGHUP):
            # A caller with a handler of its own knows how to end; only the default would leave
            # everything behind.
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _leave)
                self._caught.append(number)

    def _release_signals(self) -> None:
        while self._caught:
            signal.signal(self._caught.pop(), signal.SIG_DFL)


_TOOLS = ("agent", "scan", "fetch", "notebook", "pool_client")


def _leave(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the handler's signature
    raise SystemExit(128 + number)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep a second Ctrl-C from cutting the removal short; it is bounded."""
    if threading.current_thread() is not threading.main_thread():
        # Handlers run in the main thread: nothing can interrupt here.
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    owned = {number: handler for number, handler in before.items() if handler is not None}
    for number in owned:
        signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in owned.items():
            signal.signal(number, handler)


def _hideout(directory: Path, ident: str) -> Path:
    """Return where the agent hides its program: shared memory, or the drill's own directory."""
    try:
        usable = not os.statvfs(_SHARED_MEMORY).f_flag & os.ST_NOEXEC
    except OSError:
        usable = False
    return _SHARED_MEMORY / f"{cgroups.PREFIX}{ident}" if usable else directory
