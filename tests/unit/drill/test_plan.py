"""What the seed decides: ranges, variety, repeatability."""

import itertools
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest
from limes.drill.networks import OUTSIDE, batch
from limes.drill.plan import METADATA, DrillPlan

SEEDS = range(40)
PERMITTED = [
    IPv4Network(text)
    for text in ("203.0.113.0/24", "198.51.100.0/24", "10.0.0.0/8", "127.0.0.1/32", METADATA)
]
PIDS = {"external": 101, "internal": 102}


@pytest.mark.parametrize("seed", SEEDS)
def test_every_address_lies_in_a_permitted_range(seed: int) -> None:
    """No seed gives an address that belongs to somebody."""
    for address in DrillPlan.from_seed(seed).addresses():
        assert any(IPv4Address(address) in network for network in PERMITTED), address


def test_the_same_seed_gives_the_same_plan() -> None:
    """A drill can be played again by its seed."""
    assert DrillPlan.from_seed(4711) == DrillPlan.from_seed(4711)


def test_without_a_seed_each_plan_is_new() -> None:
    """A fresh plan carries the seed that repeats it."""
    plan = DrillPlan.from_seed(None)
    assert plan == DrillPlan.from_seed(plan.seed)
    assert plan.seed != DrillPlan.from_seed(None).seed


@pytest.mark.parametrize("field", ["relay", "pool", "forge", "refused", "hidden_name", "wallet"])
def test_what_a_rule_could_learn_by_heart_varies(field: str) -> None:
    """Names, addresses and ports are spread over the seeds."""
    values = {str(getattr(DrillPlan.from_seed(seed), field)) for seed in SEEDS}
    assert len(values) > len(SEEDS) / 2


def test_ports_of_the_outside_vary_too() -> None:
    """No single port would find the relay, the pool or the forge."""
    for field in ("relay", "pool", "forge"):
        ports = [getattr(DrillPlan.from_seed(seed), field).port for seed in SEEDS]
        assert len(set(ports)) > len(SEEDS) / 4, field


@pytest.mark.parametrize("seed", SEEDS)
def test_probing_is_bounded_and_its_targets_do_not_overlap(seed: int) -> None:
    """20 to 40 distinct endpoints; an address answers in one way only."""
    plan = DrillPlan.from_seed(seed)
    ends = [*plan.refused, *plan.silent, *plan.services]
    assert 20 <= len(set(ends)) == len(ends) <= 40
    groups = [
        {end.address for end in group} for group in (plan.refused, plan.silent, plan.services)
    ]
    assert not any(one & other for one, other in itertools.combinations(groups, 2))


@pytest.mark.parametrize("seed", SEEDS)
def test_no_target_is_an_address_of_a_link(seed: int) -> None:
    """Links have a network of their own."""
    plan = DrillPlan.from_seed(seed)
    links = {IPv4Network((link.job_address, 30), strict=False) for link in plan.links}
    assert len(links) == len(plan.links)
    ends = [*plan.refused, *plan.silent, *plan.services]
    assert not any(IPv4Address(end.address) in network for end in ends for network in links)


@pytest.mark.parametrize("name", ["job_1", "job_2", "job_3", *OUTSIDE])
def test_no_namespace_has_a_default_route(name: str) -> None:
    """Each route names a range; the widest is 10.0.0.0/8."""
    routes = [line for line in batch(name, DrillPlan.from_seed(1), PIDS) if "route add" in line]
    for route in routes:
        destination = next(word for word in route.split() if word[0].isdigit())
        assert any(IPv4Network(destination).subnet_of(network) for network in PERMITTED), route


def test_every_endpoint_outside_is_owned_by_an_outside_namespace() -> None:
    """An address is either put on the namespace's loopback or swallowed by its blackhole."""
    plan = DrillPlan.from_seed(2)
    lines = [line for name in OUTSIDE for line in batch(name, plan, PIDS)]
    answering = [plan.relay, plan.pool, plan.forge, plan.metadata, *plan.refused, *plan.services]
    for end in answering:
        assert f"addr add {end.address}/32 dev lo" in lines
    for end in plan.silent:
        assert f"route add blackhole {end.address}/32" in lines


def test_the_training_job_has_no_wire() -> None:
    """What needs no network gets none."""
    assert batch("job_1", DrillPlan.from_seed(3), PIDS) == ["link set lo up"]


def test_the_agent_reaches_both_outsides_and_the_benign_job_one() -> None:
    """Wires follow the plan's links."""
    plan = DrillPlan.from_seed(3)
    wires = {
        name: [line for line in batch(name, plan, PIDS) if line.startswith("link add")]
        for name in ("job_2", "job_3")
    }
    assert [len(wires["job_2"]), len(wires["job_3"])] == [2, 1]
    unwired = replace(plan, links=())
    assert batch("job_2", unwired, PIDS) == ["link set lo up"]
