"""The calls on the simulated GPU."""

from pathlib import Path

import pytest
from limes.drill.errors import NotPermitted
from limes.drill.gpu import GpuNode, call_tables, make_node

RM_CONTROL = 0xC020462A
RM_ALLOC = 0xC030462B


def test_requests_are_encoded_as_the_driver_defines_them() -> None:
    """Direction, size, type and number match the driver's own values."""
    requests = {call[0] for call in call_tables()["birth"]}
    known = {RM_CONTROL, RM_ALLOC, 0xC0104629, 0xC00846D6, 0xC04846C8, 0xC00446C9, 0xC23046D7}
    assert known <= requests
    assert requests - known == {0xC038464E, 0xC0B8464A}


def test_a_context_birth_allocates_a_compute_engine_and_a_channel() -> None:
    """The classes that tell a context are in the sequence, at the class's offset."""
    classes = [call[3] for call in call_tables()["birth"] if call[0] == RM_ALLOC]
    assert {0xCBC0, 0xC86F} <= set(classes)
    assert {call[2] for call in call_tables()["birth"] if call[0] == RM_ALLOC} == {12}


def test_steady_use_is_control_calls_only() -> None:
    """What a waiting rank repeats."""
    assert {call[0] for call in call_tables()["steady"]} == {RM_CONTROL}


def test_the_node_is_called_simulated_wherever_it_is_shown() -> None:
    """Nobody takes the stand-in for a card."""
    node = GpuNode(path=Path("/srv/dev/nvidia0"), major=1, minor=7)
    assert node.simulated
    assert node.label() == "/srv/dev/nvidia0 (simulated device)"


def test_a_node_that_cannot_be_made_says_what_it_needs(tmp_path: Path) -> None:
    """The message names the node, the right and the mount option."""
    with pytest.raises(NotPermitted, match=r"simulated device .*CAP_MKNOD.*nodev"):
        make_node(tmp_path / "missing" / "nvidia0")
