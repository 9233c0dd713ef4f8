"""The built BPF object against what Python believes of it: sizes, offsets, maps, programs."""

import json
import re
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from limes.sensor.bpf import kernel, libbpf
from limes.sensor.bpf.hooks import PROGRAMS
from limes.v1 import schema

ROOT = Path(__file__).parents[2]
OBJECT = libbpf.OBJECT


def structures(path: Path) -> dict[str, dict[str, Any]]:
    """Structures of an object by name, as its BTF has them."""
    shown = subprocess.run(
        ["bpftool", "-j", "btf", "dump", "file", str(path)],
        check=True,
        capture_output=True,
        text=True,
    )
    return {t["name"]: t for t in json.loads(shown.stdout)["types"] if t["kind"] == "STRUCT"}


@pytest.fixture(scope="module")
def types(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Structures of the built object; clang drops those that no map or function mentions, so the
    records come from a second object, built from the same header by the same compiler.
    """
    folder = tmp_path_factory.mktemp("types")
    source = folder / "types.c"
    names = [f"evt_{name}" for name in schema.RECORDS] + ["evt_header"]
    source.write_text('#include "event.h"\n' + "".join(f"struct {n} {n};\n" for n in names))
    multiarch = sysconfig.get_config_var("MULTIARCH")
    includes = [f"-I{ROOT / 'bpf/include'}", f"-I/usr/include/{multiarch}"]
    flags = ["-O2", "-g", "-target", "bpf", "-D__bpf__", "-include", "linux/types.h", *includes]
    output = folder / "types.o"
    subprocess.run(["clang", *flags, "-c", str(source), "-o", str(output)], check=True)
    return structures(output) | structures(OBJECT)


def flat(structure: dict[str, Any], types: dict[str, dict[str, Any]]) -> dict[str, int]:
    """Byte offset of each member, the header's members flattened."""
    offsets: dict[str, int] = {}
    for member in structure["members"]:
        start = member["bits_offset"] // 8
        if member["name"] == "header":
            inner = flat(types["evt_header"], types)
            offsets |= {name: start + offset for name, offset in inner.items()}
        else:
            offsets[member["name"]] = start
    return offsets


def offsets_of(dtype: np.dtype[Any]) -> dict[str, int]:
    assert dtype.fields is not None
    return {name: field[1] for name, field in dtype.fields.items()}


@pytest.mark.parametrize("record", schema.RECORDS.values(), ids=lambda r: r.name)
def test_records_have_the_layout_that_the_sensor_reads(
    record: schema.Record, types: dict[str, dict[str, Any]]
) -> None:
    """Size and every offset of a record are equal on both sides."""
    structure, dtype = types[f"evt_{record.name}"], np.dtype(record.dtype)
    assert structure["size"] == dtype.itemsize
    assert flat(structure, types) == offsets_of(dtype)


def test_aggregates_and_tables_have_the_layout_that_the_sensor_reads(
    types: dict[str, dict[str, Any]],
) -> None:
    """Keys and values of the maps that user space reads or writes are equal on both sides."""
    pairs = {
        "gpu_cell_key": kernel._CELL_KEY_DTYPE,
        "gpu_cell": kernel._CELL_VALUE_DTYPE,
        "owner": kernel._OWNER,
        "image": kernel._IMAGE,
        "gpu_seen_key": kernel._SEEN_KEY_DTYPE,
    }
    for name, dtype in pairs.items():
        assert types[name]["size"] == dtype.itemsize, name
        assert flat(types[name], types) == offsets_of(dtype), name
    assert types["settings"]["size"] == libbpf._SETTINGS.size


def sections() -> str:
    return subprocess.run(
        ["llvm-readelf", "-S", "-s", str(OBJECT)], check=True, capture_output=True, text=True
    ).stdout


def test_every_program_of_the_object_is_in_the_table_of_hooks_and_the_reverse() -> None:
    """No program is loaded that no plan names, none is named that is not built."""
    symbols = set(re.findall(r"FUNC\s+GLOBAL\s+\S+\s+\d+\s+(\w+)", sections()))
    assert symbols == set(PROGRAMS)


def test_hooks_are_those_of_the_sections() -> None:
    """Each program's hook is the one that its ELF section names."""
    for program in PROGRAMS.values():
        section = "raw_tp" if program.hook.startswith("raw_tp") else program.hook
        assert re.search(rf"\s{re.escape(section)}\s+PROGBITS", sections()), program


def test_every_counter_is_counted_somewhere() -> None:
    """A loss counter that no program increments would promise what nobody keeps."""
    text = "".join(p.read_text() for p in (ROOT / "bpf").glob("*/*.[ch]") if p.name != "event.h")
    for counter in schema.COUNTERS:
        assert f"base__count(COUNTER_{counter.name.upper()})" in text, counter.name


def test_scope_is_asked_before_anything_is_read() -> None:
    """Each program's first statement that reads or writes anything is the scope check."""
    for path in (ROOT / "bpf/programs").glob("*.c"):
        for name, body in re.findall(
            r"^(?:TRACEPOINT|FENTRY|FEXIT)\((\w+),.*?\)\n\{\n(.*?)^\}",
            path.read_text(),
            re.MULTILINE | re.DOTALL,
        ):
            first = re.search(r"(scope__\w+|MAP_LOOKUP\(sockets|gpu__ioctl|READ\()", body)
            allowed = {"MAP_LOOKUP(sockets", "gpu__ioctl"}  # the remembered owner; asks itself
            assert first is not None, name
            assert first[1].startswith("scope__") or first[1] in allowed or "is_v2" in body, name
