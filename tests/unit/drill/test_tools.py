"""What is said when a program is missing."""

from pathlib import Path

import pytest
from limes.drill.errors import MissingTool
from limes.drill.tools import find


def test_a_missing_program_names_its_debian_package(tmp_path: Path) -> None:
    """One line with everything to install."""
    for name in ("bash", "cat", "git", "ssh", "ssh-keygen"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    with pytest.raises(MissingTool) as caught:
        find(str(tmp_path))
    message = str(caught.value)
    assert "ip, sshd" in message
    assert "apt-get install iproute2 openssh-server" in message
    assert "\n" not in message
