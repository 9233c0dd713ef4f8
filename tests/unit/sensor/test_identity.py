"""Stable ids: what they depend on, and what they do not."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from limes.sensor.identity import Identity, mix64

BOOT = "11111111-2222-3333-4444-555555555555"


def identity(host_id: str = "gpu-07", boot_id: str = BOOT, epoch: int = 1) -> Identity:
    return Identity(host_id=host_id, boot_id=boot_id, epoch=epoch)


def test_start_time_counts_in_ticks_so_that_proc_gives_the_same_id() -> None:
    """/proc/<pid>/stat has 10 ms ticks, the kernel side nanoseconds."""
    assert identity().entity(42, 1_239_999_999) == identity().entity(42, 1_230_000_000)
    assert identity().entity(42, 1_239_999_999) != identity().entity(42, 1_240_000_000)


def test_entity_depends_on_boot_and_pid_but_not_on_the_sensors_start() -> None:
    """A restarted sensor gives a process the id it had."""
    assert identity(epoch=1).entity(42, 10**9) == identity(epoch=2).entity(42, 10**9)
    assert identity().entity(42, 10**9) != identity().entity(43, 10**9)
    assert identity().entity(42, 10**9) != identity(boot_id=BOOT[::-1]).entity(42, 10**9)


def test_entity_of_this_version_is_that_of_every_version() -> None:
    """Stored ids must stay joinable: the hash is part of the contract."""
    assert identity().entity(4242, 123_456_789_012) == 17873436042063907194


def test_no_process_is_zero() -> None:
    """Pid 0 means that there is no subject."""
    assert identity().entity(0, 10**9) == 0


def test_kernel_ids_differ_between_hosts_boots_and_starts_and_keep_zero() -> None:
    """Two sensors mint the same small numbers; the store must not mix them."""
    ids = np.array([0, 1, 2], np.uint64)
    seen = {
        tuple(who.kernel_ids(ids).tolist())
        for who in (identity(), identity(host_id="b"), identity(boot_id="b"), identity(epoch=2))
    }
    assert len(seen) == 4
    assert {first for first, *_ in seen} == {0}
    assert ids.tolist() == [0, 1, 2]


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, unique=True))
def test_mixing_is_a_bijection(values: list[int]) -> None:
    """No two keys of one boot share an id."""
    assert len(set(mix64(np.array(values, np.uint64)).tolist())) == len(values)
