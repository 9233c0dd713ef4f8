"""Owns the drill's network namespaces: an outside world without an outside.

Invariant: every address is an address or a blackhole route of a namespace made here, no namespace
has a default route, and no interface ever exists in the caller's namespace. A namespace is held
by a process alone, never by a mount, so that it goes when its processes go.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from limes.drill.cgroups import JOBS
from limes.drill.errors import NotPermitted, StepFailed
from limes.drill.plan import ALLOWED, EXTERNAL, INTERNAL, METADATA, DrillPlan
from limes.drill.processes import Actor, Company, Place

OUTSIDE = ("external", "internal")
_PREFIX_LENGTH = 30


class Networks:
    """The five namespaces of a drill and the wires between them."""

    def __init__(self, company: Company, cgroup: Path, ip: str) -> None:
        """Make empty namespaces, held by processes in `cgroup`."""
        self._company = company
        self._cgroup = cgroup
        self._ip = ip
        self._holders: dict[str, Actor] = {}
        for name in (*JOBS, *OUTSIDE):
            self._holders[name] = self._hold(name)

    def path(self, name: str) -> str:
        """Return the path by which a namespace is entered."""
        return f"/proc/{self._holders[name].pid}/ns/net"

    def pid(self, name: str) -> int:
        """Return a process inside a namespace."""
        return self._holders[name].pid

    def wire(self, plan: DrillPlan) -> None:
        """Give every namespace its wires, addresses and routes."""
        pids = {name: self.pid(name) for name in OUTSIDE}
        for name in (*JOBS, *OUTSIDE):
            self._batch(name, batch(name, plan, pids))

    def _hold(self, name: str) -> Actor:
        actor = self._company.start(f"hold-{name}", ["cat"], Place(cgroup=self._cgroup))
        try:
            # cat gives the line back: it runs, so the namespace is there.
            actor.ask("here")
        except StepFailed as error:
            raise NotPermitted(
                f"Cannot make a network namespace: {error}. "
                "It needs CAP_SYS_ADMIN and CONFIG_NET_NS"
            ) from error
        return actor

    def _batch(self, name: str, lines: list[str]) -> None:
        file = self._company.logs / f"{name}.ip"
        file.write_text("\n".join(lines) + "\n")
        place = Place(cgroup=self._cgroup, network=self.path(name))
        try:
            self._company.run(f"wire-{name}", [self._ip, "-batch", str(file)], place)
        except StepFailed as error:
            raise NotPermitted(
                f"Cannot wire namespace {name}: {error}. It needs CAP_NET_ADMIN and the veth driver"
            ) from error


def batch(name: str, plan: DrillPlan, pids: Mapping[str, int]) -> list[str]:
    """Return the `ip -batch` lines of one namespace; jobs come before the outside."""
    lines = ["link set lo up"]
    for link in plan.links:
        if link.job == name:
            lines += [
                f"link add {link.device} type veth peer name {link.job} netns {pids[link.outside]}",
                f"addr add {link.job_address}/{_PREFIX_LENGTH} dev {link.device}",
                f"link set {link.device} up",
                *(
                    f"route add {network} via {link.outside_address}"
                    for network in _reached_by(link.outside)
                ),
            ]
        if link.outside == name:
            lines += [
                f"addr add {link.outside_address}/{_PREFIX_LENGTH} dev {link.job}",
                f"link set {link.job} up",
            ]
    return [*lines, *_owned_by(name, plan)]


def _reached_by(outside: str) -> tuple[str, ...]:
    if outside == "external":
        return str(EXTERNAL), str(ALLOWED)
    return str(INTERNAL), f"{METADATA}/32"


def _owned_by(name: str, plan: DrillPlan) -> Iterator[str]:
    if name == "external":
        ends = [plan.relay, plan.pool, plan.forge]
    elif name == "internal":
        ends = [plan.metadata, *plan.refused, *plan.services]
    else:
        return
    for address in dict.fromkeys(end.address for end in ends):
        yield f"addr add {address}/32 dev lo"
    # What is owned but stays silent is dropped, and so is the rest of each range: no answer, no
    # error message, no way on.
    ranges = _reached_by(name) if name == "external" else (str(INTERNAL),)
    silent = [f"{end.address}/32" for end in plan.silent] if name == "internal" else []
    for destination in [*silent, *ranges]:
        yield f"route add blackhole {destination}"
