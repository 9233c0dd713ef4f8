"""Owns what the seed decides: every address, port, name and count of one drill.

Invariant: each address lies in a documentation range, in 10.0.0.0/8, on loopback or is the
metadata address, and none is known to a rule.
"""

import random
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network

EXTERNAL = IPv4Network("203.0.113.0/24")
ALLOWED = IPv4Network("198.51.100.0/24")
INTERNAL = IPv4Network("10.0.0.0/8")
METADATA = "169.254.169.254"

_COMMON_PORTS = (22, 80, 443, 2379, 3306, 5432, 6379, 6443, 8080, 9200, 10250)
# Below the ephemeral range, so that no outgoing connection can hold a listener's port.
_OWN_PORTS = range(10_000, 32_000)
_WORDS = (
    "amber",
    "basin",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "heron",
    "inlet",
    "juniper",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One IPv4 address and TCP port."""

    address: str
    port: int

    def __str__(self) -> str:
        """Return address:port."""
        return f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One veth pair: the interface `device` of a job and its peer in an outside namespace."""

    job: str
    outside: str
    device: str
    job_address: str
    outside_address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillPlan:
    """Everything random about one drill; equal seeds give equal plans."""

    seed: int
    relay: Endpoint
    pool: Endpoint
    forge: Endpoint
    metadata: Endpoint
    refused: tuple[Endpoint, ...]
    silent: tuple[Endpoint, ...]
    services: tuple[Endpoint, ...]
    agent_service: Endpoint
    rendezvous: Endpoint
    forwarded_ports: tuple[int, int]
    links: tuple[Link, ...]
    hidden_name: str
    wallet: str
    project: str
    relay_user: str
    tunnel_bytes: tuple[int, int]
    pool_calls: int
    forks: int
    gaps: tuple[float, ...]

    @classmethod
    def from_seed(cls, seed: int | None) -> "DrillPlan":
        """Return the plan of a seed, or of a fresh one."""
        if seed is None:
            seed = secrets.randbits(63)
        rng = random.Random(seed)  # noqa: S311 - variety, not secrecy
        ports = iter(rng.sample(_OWN_PORTS, 24))
        external = iter(rng.sample(range(2, 255), 4))
        targets, link_net = _internal_networks(rng)
        refused, silent, services = _targets(rng, targets, ports)
        return cls(
            seed=seed,
            relay=Endpoint(
                address=str(EXTERNAL[next(external)]),
                port=rng.choice((22, 443, 2222, next(ports))),
            ),
            pool=Endpoint(
                address=str(EXTERNAL[next(external)]),
                port=rng.choice((443, 3333, 14444, next(ports))),
            ),
            forge=Endpoint(
                address=str(ALLOWED[next(external)]), port=rng.choice((22, next(ports)))
            ),
            metadata=Endpoint(address=METADATA, port=80),
            refused=refused,
            silent=silent,
            services=services,
            agent_service=Endpoint(address="127.0.0.1", port=next(ports)),
            rendezvous=Endpoint(address="127.0.0.1", port=next(ports)),
            forwarded_ports=(next(ports), next(ports)),
            links=_links(link_net),
            hidden_name="." + _token(rng, rng.randint(4, 9)),
            wallet=_token(rng, 95),
            project=f"{rng.choice(_WORDS)}_{_token(rng, 4)}",
            relay_user=f"{rng.choice(_WORDS)}{rng.randint(1, 99)}",
            tunnel_bytes=(rng.randint(20_000, 60_000), rng.randint(20_000, 60_000)),
            pool_calls=2 * rng.randint(60, 90) + 1,
            forks=201,
            gaps=tuple(rng.uniform(0.05, 0.5) for _ in range(12)),
        )

    def addresses(self) -> tuple[str, ...]:
        """Return every address that something of the drill binds, reaches or routes to."""
        ends = (
            self.relay,
            self.pool,
            self.forge,
            self.metadata,
            self.agent_service,
            self.rendezvous,
            *self.refused,
            *self.silent,
            *self.services,
        )
        links = [
            address for link in self.links for address in (link.job_address, link.outside_address)
        ]
        return tuple(dict.fromkeys([*(end.address for end in ends), *links]))


def _token(rng: random.Random, length: int) -> str:
    return "".join(rng.choices("abcdefghijkmnpqrstuvwxyz23456789", k=length))


def _internal_networks(rng: random.Random) -> tuple[list[IPv4Network], IPv4Network]:
    """Return two /24 that are probed and one /24 for the links, all different."""
    picks = [
        IPv4Network((int(INTERNAL.network_address) + (n << 8), 24))
        for n in rng.sample(range(1, 65_535), 3)
    ]
    return picks[:2], picks[2]


def _targets(
    rng: random.Random, networks: list[IPv4Network], ports: Iterator[int]
) -> tuple[tuple[Endpoint, ...], tuple[Endpoint, ...], tuple[Endpoint, ...]]:
    """Return the refused, silent and answering targets; no address is in two groups."""
    hosts = [str(network[host]) for network in networks for host in rng.sample(range(1, 255), 8)]
    rng.shuffle(hosts)
    refused = tuple(
        Endpoint(address=host, port=port)
        for host in hosts[:7]
        for port in rng.sample(_COMMON_PORTS, 3)
    )
    silent = tuple(Endpoint(address=host, port=rng.choice(_COMMON_PORTS)) for host in hosts[7:13])
    services = tuple(Endpoint(address=host, port=next(ports)) for host in hosts[13:])
    return refused, silent, services


def _links(network: IPv4Network) -> tuple[Link, ...]:
    wires = (
        ("job_2", "external", "eth0"),
        ("job_2", "internal", "eth1"),
        ("job_3", "external", "eth0"),
    )
    return tuple(
        Link(
            job=job,
            outside=outside,
            device=device,
            job_address=str(network[4 * index + 1]),
            outside_address=str(network[4 * index + 2]),
        )
        for index, (job, outside, device) in enumerate(wires)
    )
