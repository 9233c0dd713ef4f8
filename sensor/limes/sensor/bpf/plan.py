"""Chooses programs per signal by what the kernel accepts: load, learn from a refusal, choose again.

Invariant: what is not attached has a HookState that says why and what is therefore not seen.
"""

import errno
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, Protocol

from limes.sensor.bpf.hooks import PROGRAMS, SIGNALS, Program, Signal, Way
from limes.sensor.devices import NVIDIA_MAJOR
from limes.sensor.errors import KernelUnsupported
from limes.sensor.source import HookState

PlanName = Literal["auto", "fentry", "tracepoint"]
MAX_SCOPES: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """A watched cgroup: its v2 id, its depth below the root, its directory."""

    cgroup_id: int
    level: int
    directory: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRequest:
    """What to attach: no scopes is the whole host; `syscall_hooks` allows sys_enter, sys_exit."""

    scopes: tuple[Scope, ...] = ()
    plan: PlanName = "auto"
    syscall_hooks: bool = False
    cgroup_root: Path = Path("/sys/fs/cgroup")
    gpu_lowest_major: int = NVIDIA_MAJOR


class Refused(Exception):
    """The kernel did not take one program."""

    def __init__(self, program: str, error: int, text: str) -> None:
        super().__init__(f"{program}: {text}")
        self.program = program
        self.error = error
        self.text = text


class Attachment(Protocol):
    """Loaded and attached programs with their maps, by either loader."""

    def map_fd(self, name: str) -> int:
        """File descriptor of a map."""

    def program_fd(self, name: str) -> int:
        """File descriptor of a program."""

    def detach(self) -> None:
        """Removes every program from its hook; maps stay."""

    def close(self) -> None:
        """Gives back programs and maps."""


@dataclass(slots=True)
class Choice:
    """The search: which programs are wanted now, given the refusals so far."""

    request: LoadRequest
    refusals: dict[str, Refused] = field(default_factory=dict)

    def _usable(self, program: Program) -> bool:
        if program.syscall and not self.request.syscall_hooks:
            return False
        return program.name not in self.refusals

    def _ways(self, signal: Signal) -> Iterator[Way]:
        wanted = self.request.plan
        for way in signal.ways:
            if len(signal.ways) == 1 or wanted in {"auto", way.plan}:
                yield way

    def way(self, signal: Signal) -> Way | None:
        """The best way to the signal that nothing speaks against."""
        for way in self._ways(signal):
            if all(self._usable(p) for p in way.programs if not p.optional):
                return way
        return None

    def programs(self) -> list[str]:
        """Names of all programs to attach."""
        chosen: list[str] = []
        for signal in SIGNALS:
            way = self.way(signal)
            chosen += [p.name for p in way.programs if self._usable(p)] if way else []
        return chosen

    def plan(self) -> str:
        """`fentry` when any signal is served by it, else `tracepoint`."""
        ways = [self.way(signal) for signal in SIGNALS]
        return "fentry" if any(way and way.plan == "fentry" for way in ways) else "tracepoint"

    def _states(self) -> Iterator[HookState]:
        for signal in SIGNALS:
            chosen = self.way(signal)
            for way in signal.ways:
                for program in way.programs:
                    yield self._state(signal, way, program, used=way is chosen)

    def _state(self, signal: Signal, way: Way, program: Program, *, used: bool) -> HookState:
        refusal = self.refusals.get(program.name)
        if refusal:
            state, detail = "refused", refusal.text
        elif program.syscall and not self.request.syscall_hooks:
            state, detail = "not_used", "slows every system call of the host: needs syscall_hooks"
        elif used:
            state, detail = "attached", f"not seen: {way.blind}" if way.blind else ""
        else:
            state, detail = "not_used", "a better way serves this signal"
            if self.request.plan not in {"auto", way.plan} and len(signal.ways) > 1:
                detail = f"plan {self.request.plan} was asked for"
            elif self.way(signal) is None:
                detail = "this signal is not seen"
        return HookState(
            signal=signal.name,
            plan=way.plan,
            hook=program.hook,
            state=state,
            error=refusal.error if refusal else 0,
            detail=detail,
        )

    def states(self) -> tuple[HookState, ...]:
        """What became of every program."""
        return tuple(self._states())


def search(
    request: LoadRequest, attach: Callable[[Iterable[str]], Attachment]
) -> tuple[Attachment, Choice]:
    """Attaches the best set of programs the kernel accepts.

    `attach` takes program names and either attaches all of them or raises Refused and leaves
    nothing behind. Raises KernelUnsupported when a required signal has no way left, or the
    asked-for plan was refused.
    """
    choice = Choice(request)
    for _ in range(len(PROGRAMS) + 1):
        try:
            attachment = attach(choice.programs())
        except Refused as refusal:
            if refusal.program in choice.refusals:
                break
            choice.refusals[refusal.program] = refusal
            _demand(choice)
        else:
            return attachment, choice
    reasons = "; ".join(str(refusal) for refusal in choice.refusals.values())
    raise KernelUnsupported(f"Cannot attach to the kernel: {reasons}. Run `limes doctor`.")


def _demand(choice: Choice) -> None:
    """Process and TCP sight are what Limes is for: without them it does not start."""
    for signal in SIGNALS:
        required = signal.name in {"process_exec", "tcp_state"}
        forced = choice.request.plan == "fentry" and len(signal.ways) > 1
        if (required or forced) and choice.way(signal) is None:
            refusal = next(
                choice.refusals[program.name]
                for way in signal.ways
                for program in way.programs
                if program.name in choice.refusals
            )
            name = errno.errorcode.get(refusal.error, str(refusal.error))
            raise KernelUnsupported(
                f"Cannot attach {PROGRAMS[refusal.program].hook} for {signal.name}: the kernel "
                f"said {name} ({refusal.text}). "
                + ("Use --plan auto." if forced else "Run `limes doctor`.")
            )
