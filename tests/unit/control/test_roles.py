"""Who may have how many calls open: no certificate keeps the others out."""

import pytest
from limes.control.roles import ANALYST, CALLS, SENSOR, Identity, Shares


@pytest.mark.parametrize("role", [SENSOR, ANALYST])
def test_one_certificate_takes_no_more_than_its_share(role: str) -> None:
    """Another of the same role is served all the same, and the first again when it ended one."""
    shares = Shares(256)
    greedy, other = Identity("greedy", role), Identity("other", role)
    assert [shares.refusal(greedy) for _ in range(CALLS[role])] == [""] * CALLS[role]
    assert "'greedy'" in shares.refusal(greedy)
    assert shares.refusal(other) == ""
    shares.release(greedy)
    assert shares.refusal(greedy) == ""


def test_analysts_together_leave_threads_to_the_sensors() -> None:
    """However many there are: half of the threads are not theirs."""
    shares = Shares(8)
    assert [shares.refusal(Identity(f"a{n}", ANALYST)) for n in range(4)] == [""] * 4
    assert "try later" in shares.refusal(Identity("a4", ANALYST))
    assert [shares.refusal(Identity(f"s{n}", SENSOR)) for n in range(4)] == [""] * 4
