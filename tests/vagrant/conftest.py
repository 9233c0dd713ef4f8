"""The guests of the VM tests; what is built once per machine is built once per session here."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import config, vm, wheel


@pytest.fixture(scope="session")
def prepared() -> vm.Prepared:
    """The first machine of machines.toml, its images and kernel in the cache."""
    return vm.prepare(config.load())


@pytest.fixture(scope="module")
def guest(prepared: vm.Prepared) -> Iterator[vm.Guest]:
    """A guest shared by the tests of a module, which leave it as it was."""
    with vm.boot(prepared) as booted:
        yield booted


@pytest.fixture(scope="session")
def limes_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree, with the BPF object built from it."""
    return wheel.build(tmp_path_factory.mktemp("wheel"))
