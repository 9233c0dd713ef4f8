"""The bcc loader: the same C sources, compiled on the host by bcc; no kernel headers needed.

Invariant: bcc only compiles, loads and attaches; the same code as libbpf's reads the maps.
"""

import contextlib
import ctypes
import errno
import importlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from limes.sensor.bpf.btf import Btf
from limes.sensor.bpf.hooks import PROGRAMS
from limes.sensor.bpf.plan import LoadRequest, Refused
from limes.sensor.errors import KernelUnsupported, SensorError

SOURCES: Final = Path(__file__).parent.parent / "_bpf" / "src"
_FOLDERS: Final = ("", "lib", "include")
_DISTRIBUTION: Final = "/usr/lib/python3/dist-packages"
_STRUCT: Final = re.compile(
    r"^struct (?P<name>\w+) \{\n(?P<body>.*?)^\};", re.MULTILINE | re.DOTALL
)
_MEMBER: Final = re.compile(r"^\t([^;/]*?(\w+)(?:\[\d*\])?;)", re.MULTILINE)
_NOT_FOR_BCC: Final = re.compile(r"^#(include|pragma) .*$", re.MULTILINE)
_INCLUDE: Final = re.compile(r'^#include "([\w./]+)"$', re.MULTILINE)
_PREFIX: Final = {"fentry": "kfunc__", "fexit": "kretfunc__"}
# bcc rewrites map functions itself and allows none inside a macro: compat.h's are spelled out here.
_MAP_CALLS: Final = (
    (re.compile(r"\bMAP_(LOOKUP|UPDATE|INSERT|DELETE)\((\w+), "), r"\2.@\1("),
    (re.compile(r"\bRING_RESERVE\((\w+), ([\w ]+)\)"), r"((\2 *)\1.ringbuf_reserve(sizeof(\2)))"),
    (re.compile(r"\bRING_SUBMIT\((\w+), "), r"\1.ringbuf_submit("),
)
# bcc's prologue includes these; what they would declare is in the dump of the kernel's BTF.
_SHIM_HEADERS: Final = (
    "linux/types.h",
    "linux/bpf_common.h",
    "linux/version.h",
    "linux/log2.h",
    "asm/page.h",
    "uapi/linux/bpf.h",
    "uapi/linux/if_packet.h",
    "uapi/linux/ptrace.h",
)


def flatten(btf: Btf, sources: Path = SOURCES) -> str:
    """The whole kernel side as one text: bcc makes programs only of functions in its main file."""
    seen: set[str] = set()

    def inline(match: re.Match[str]) -> str:
        name = match[1]
        if name in seen:
            return ""
        seen.add(name)
        for folder in _FOLDERS:
            path = sources / folder / name
            if path.exists():
                text = path.read_text(encoding="utf-8")
                return laid_out(text, btf) if name == "kernel.h" else _INCLUDE.sub(inline, text)
        raise SensorError(
            f"Cannot read the BPF source {name}: not under {sources}. Run `make bpf`."
        )

    text = _INCLUDE.sub(inline, '#include "limes.bpf.c"')
    for call, bcc_call in _MAP_CALLS:
        text = call.sub(bcc_call, text)
    return re.sub(r"\.@(\w+)", lambda match: f".{match[1].lower()}", text)


def function_name(program: str) -> str:
    """Name of the program's function under bcc, which finds fentry hooks by a prefix."""
    kind, _, hook = PROGRAMS[program].hook.partition("/")
    return f"{_PREFIX[kind]}{hook}" if kind in _PREFIX else program


def _import_bcc() -> Any:
    """The distribution's bcc module, also from inside a virtual environment."""
    with contextlib.suppress(ImportError):
        return importlib.import_module("bcc")
    sys.path.append(_DISTRIBUTION)
    try:
        return importlib.import_module("bcc")
    except ImportError as error:
        raise SensorError(
            f"Cannot import bcc: {error}. Install it (Debian: apt-get install python3-bpfcc), "
            "or use --loader libbpf."
        ) from error
    finally:
        sys.path.remove(_DISTRIBUTION)


def laid_out(header: str, btf: Btf) -> str:
    """kernel.h with each structure's members where the running kernel has them.

    libbpf relocates accesses when it loads; bcc cannot, so the offsets are written into the text.
    Structures that the kernel does not name (typedefs of anonymous ones) stay as they are.
    """

    def place(match: re.Match[str]) -> str:
        offsets = btf.members(match["name"])
        if offsets is None:
            return match[0]
        members = [
            f"\tstruct {{ char _at_{name}[{offsets[name]}]; {declaration} }} "
            "__attribute__((packed));"
            for declaration, name in _MEMBER.findall(match["body"])
            if name in offsets
        ]
        inner = "\n".join(members)
        return f"struct {match['name']} {{ union {{\n{inner}\n}}; }};"

    return _STRUCT.sub(place, _NOT_FOR_BCC.sub("", header)).replace("[];", "[0];")


@contextlib.contextmanager
def header_shim() -> Iterator[Path]:
    """A folder that stands in for kernel headers: bcc's prologue finds all it includes there."""
    with tempfile.TemporaryDirectory(prefix="limes-bcc-") as name:
        include = Path(name) / "include"
        for header in _SHIM_HEADERS:
            path = include / header
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        shutil.copy(SOURCES / "include/bcc_shim.h", include / "linux/kconfig.h")
        yield Path(name)


class BccAttachment:
    """Programs attached through bcc."""

    def __init__(self, bcc: Any, module: Any) -> None:
        self._library = bcc.lib
        self._types = bcc.BPF
        self._module = module
        self._links: list[int] = []
        self._programs: dict[str, int] = {}

    def map_fd(self, name: str) -> int:
        """File descriptor of a map."""
        return int(self._module[name.encode()].map_fd)

    def program_fd(self, name: str) -> int:
        """File descriptor of a program."""
        return self._programs[name]

    def add(self, name: str) -> None:
        """Loads a program and attaches it; raises Refused when the kernel does not take it."""
        kind, _, hook = PROGRAMS[name].hook.partition("/")
        if kind == "cgroup":
            raise Refused(name, errno.ENOTSUP, "bcc attaches no cgroup socket-address programs")
        traced = kind in _PREFIX
        program_type = self._types.TRACING if traced else self._types.RAW_TRACEPOINT
        ctypes.set_errno(0)
        try:
            function = self._module.load_func(function_name(name).encode(), program_type)
        except Exception as error:  # bcc raises bare Exception
            raise Refused(name, ctypes.get_errno() or errno.EINVAL, str(error)) from error
        self._programs[name] = function.fd
        if kind == "raw_tp":
            return
        if traced:
            link = self._library.bpf_attach_kfunc(function.fd)
        else:
            link = self._library.bpf_attach_raw_tracepoint(function.fd, hook.encode())
        if link < 0:
            error_number = ctypes.get_errno()
            raise Refused(name, error_number, os.strerror(error_number))
        self._links.append(link)

    def detach(self) -> None:
        """Removes every program from its hook; maps stay."""
        while self._links:
            os.close(self._links.pop())

    def close(self) -> None:
        """Gives back programs and maps."""
        self.detach()
        self._module.cleanup()


class BccLoader:
    """Compiles the sources once per attempt and attaches sets of programs."""

    name = "bcc"

    def __init__(self, request: LoadRequest) -> None:
        self._request = request
        self._bcc = _import_bcc()
        self._text = flatten(Btf())

    def _flags(self, names: Iterable[str]) -> list[str]:
        scopes = self._request.scopes
        settings = {
            "scope_count": len(scopes),
            "syscall_results": int("handle_sys_exit" in names),
            "gpu_lowest_major": self._request.gpu_lowest_major,
        }
        for index in range(4):
            scope = scopes[index] if index < len(scopes) else None
            settings[f"scope_id_{index}"] = scope.cgroup_id if scope else 0
            settings[f"scope_level_{index}"] = scope.level if scope else 0
        machine = {"x86_64": "x86", "aarch64": "arm64"}.get(os.uname().machine, "unknown")
        major, minor = re.findall(r"\d+", os.uname().release)[:2]
        return [
            "-DLIMES_BCC",
            f"-D__TARGET_ARCH_{machine}",
            f"-DLINUX_VERSION_CODE={int(major) << 16 | int(minor) << 8}",
            "-Wno-everything",
            *[f"-DSETTING_{name}={value}" for name, value in settings.items()],
        ]

    def _compile(self, names: Iterable[str]) -> Any:
        bcc = self._bcc

        class Module(bcc.BPF):  # type: ignore[misc, name-defined]
            """Does not attach by function name on its own: the plan decides."""

            def _trace_autoload(self) -> None:
                return

        with header_shim() as folder:
            previous = os.environ.get("BCC_KERNEL_SOURCE")
            os.environ["BCC_KERNEL_SOURCE"] = str(folder)
            try:
                return Module(text=self._text.encode(), cflags=self._flags(names))
            except Exception as error:  # bcc raises bare Exception; clang's words go to stderr
                raise KernelUnsupported(
                    f"Cannot compile the BPF sources with bcc: {error}"
                ) from error
            finally:
                if previous is None:
                    del os.environ["BCC_KERNEL_SOURCE"]
                else:
                    os.environ["BCC_KERNEL_SOURCE"] = previous

    def attach(self, names: Iterable[str]) -> BccAttachment:
        """Compiles, loads and attaches all of `names`, or raises Refused and leaves nothing."""
        names = list(names)
        unsupported = next((n for n in names if PROGRAMS[n].hook.startswith("cgroup/")), None)
        if unsupported:
            raise Refused(unsupported, errno.ENOTSUP, "bcc attaches no cgroup socket programs")
        attachment = BccAttachment(self._bcc, self._compile(names))
        try:
            for name in names:
                attachment.add(name)
        except BaseException:
            attachment.close()
            raise
        return attachment
