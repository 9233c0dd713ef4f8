"""What is generated and committed equals what the registry and the protos say now."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from limes.v1 import ingest_service_pb2 as pb
from limes.v1 import schema

ROOT = Path(__file__).parents[2]


def test_everything_from_the_registry_is_fresh() -> None:
    """`make generate` would change nothing."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "bpf/generate.py"), "--check"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_stubs_are_fresh(tmp_path: Path) -> None:
    """The committed gRPC stubs are those of the protos."""
    protos = sorted((ROOT / "proto/limes/v1").glob("*.proto"))
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"-I{ROOT / 'proto'}",
            f"--python_out={tmp_path}",
            f"--pyi_out={tmp_path}",
            f"--grpc_python_out={tmp_path}",
            *map(str, protos),
        ],
        check=True,
    )
    for made in (tmp_path / "limes/v1").iterdir():
        committed = ROOT / "proto/gen/limes/v1" / made.name
        # The tools' versions stand in the files; what they generate does not depend on the patch.
        assert strip(committed.read_text()) == strip(made.read_text()), made.name


def strip(text: str) -> list[str]:
    skip = ("# Protobuf Python Version", "GRPC_GENERATED_VERSION", "    ", "_runtime_version")
    return [line for line in text.splitlines() if line and not line.startswith(skip)]


def test_kinds_have_the_numbers_of_the_wire() -> None:
    """A kind's number in the registry is its EventKind."""
    wire = {name: number for name, number in pb.EventKind.items() if number}
    assert wire == {f"EVENT_KIND_{k.name.upper()}": k.number for k in schema.KINDS.values()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)],
        check=True,
    )
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


@pytest.mark.parametrize(
    "name",
    [
        "limes/sensor/_bpf/limes.bpf.o",
        "limes/sensor/_bpf/src/limes.bpf.c",
        "limes/sensor/_bpf/src/include/event.h",
        "limes/control/store/views.sql",
        "limes/control/store/migrations/0001_events.sql",
        "limes/packs/training_host/pack.yml",
        "limes/v1/schema.py",
        "limes/v1/py.typed",
        "limes/drill/world.py",
        "limes/cli/main.py",
    ],
)
def test_the_wheel_holds_what_runs(wheel: set[str], name: str) -> None:
    """BPF object and sources, SQL, packs and stubs are in the wheel."""
    assert name in wheel


def test_the_wheel_makes_no_package_of_the_namespace(wheel: set[str]) -> None:
    """limes is a namespace: a file of its own would hide the other parts."""
    assert "limes/__init__.py" not in wheel
