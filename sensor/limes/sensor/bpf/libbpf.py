"""The libbpf loader: the prebuilt CO-RE object through ctypes; no compiler, no headers.

Invariant: an object built from another event registry is refused before it is loaded.
"""

import ctypes
import ctypes.util
import errno
import os
import re
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from limes.sensor.bpf.hooks import PROGRAMS
from limes.sensor.bpf.plan import MAX_SCOPES, LoadRequest, Refused, Scope
from limes.sensor.errors import AbiMismatch, KernelUnsupported, SensorError
from limes.v1 import schema

OBJECT: Final = Path(__file__).parent.parent / "_bpf" / "limes.bpf.o"
BTF: Final = Path("/sys/kernel/btf/vmlinux")
_SETTINGS: Final = struct.Struct("<II4Q4III")

_Printer = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)


class _Library:
    """libbpf 1.x with the handful of functions used here; collects what it prints."""

    def __init__(self) -> None:
        name = "libbpf.so.1"
        try:
            self._library = ctypes.CDLL(name, use_errno=True)
        except OSError as error:
            raise SensorError(
                f"Cannot load {name}: {error}. Install libbpf (Debian: apt-get install libbpf1), "
                "or use --loader bcc."
            ) from error
        self.log: list[str] = []
        self._libc = ctypes.CDLL(None)
        self._printer = _Printer(self._print)  # kept: libbpf holds the pointer
        self._library.libbpf_set_print(self._printer)

    def _print(self, level: int, template: bytes, arguments: int) -> int:
        buffer = ctypes.create_string_buffer(65536)
        self._libc.vsnprintf(buffer, len(buffer), template, ctypes.c_void_p(arguments))
        if level <= 1:  # warnings and infos; debug is chatter
            self.log.append(buffer.value.decode(errors="replace").strip())
        return 0

    def function(self, name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
        found = getattr(self._library, name)
        found.restype = result
        found.argtypes = arguments
        return found  # type: ignore[no-any-return]


_POINTER: Final = ctypes.c_void_p
_INT: Final = ctypes.c_int


class Libbpf:
    """Typed access to libbpf. Raises SensorError when the library is missing."""

    def __init__(self) -> None:
        library = self._owner = _Library()  # kept: it owns the callback that libbpf prints through
        self.log = library.log
        get = library.function
        self.open = get("bpf_object__open_file", _POINTER, ctypes.c_char_p, _POINTER)
        self.load = get("bpf_object__load", _INT, _POINTER)
        self.close = get("bpf_object__close", None, _POINTER)
        self.next_program = get("bpf_object__next_program", _POINTER, _POINTER, _POINTER)
        self.find_program = get(
            "bpf_object__find_program_by_name", _POINTER, _POINTER, ctypes.c_char_p
        )
        self.program_name = get("bpf_program__name", ctypes.c_char_p, _POINTER)
        self.set_autoload = get("bpf_program__set_autoload", _INT, _POINTER, ctypes.c_bool)
        self.program_fd = get("bpf_program__fd", _INT, _POINTER)
        self.attach = get("bpf_program__attach", _POINTER, _POINTER)
        self.attach_cgroup = get("bpf_program__attach_cgroup", _POINTER, _POINTER, _INT)
        self.destroy_link = get("bpf_link__destroy", _INT, _POINTER)
        self.find_map_fd = get("bpf_object__find_map_fd_by_name", _INT, _POINTER, ctypes.c_char_p)
        self.find_map = get("bpf_object__find_map_by_name", _POINTER, _POINTER, ctypes.c_char_p)
        self.initial_value = get(
            "bpf_map__initial_value", _POINTER, _POINTER, ctypes.POINTER(ctypes.c_size_t)
        )


class LibbpfAttachment:
    """Programs attached through libbpf: `links` keep them at their hooks."""

    def __init__(self, library: Libbpf, handle: int) -> None:
        self._library = library
        self._object = handle
        self._links: list[int] = []

    def _program(self, name: str) -> int:
        program: int | None = self._library.find_program(self._object, name.encode())
        if not program:
            raise AbiMismatch(f"The BPF object has no program {name}: rebuild it with `make bpf`.")
        return program

    def map_fd(self, name: str) -> int:
        """File descriptor of a map."""
        found: int = self._library.find_map_fd(self._object, name.encode())
        if found < 0:
            raise AbiMismatch(f"The BPF object has no map {name}: rebuild it with `make bpf`.")
        return found

    def program_fd(self, name: str) -> int:
        """File descriptor of a program."""
        return int(self._library.program_fd(self._program(name)))

    def prepare(self, names: Iterable[str], request: LoadRequest) -> None:
        """Writes the settings and marks the programs that are wanted."""
        wanted = set(names)
        program = self._library.next_program(self._object, None)
        while program:
            name = self._library.program_name(program).decode()
            self._library.set_autoload(program, name in wanted)
            program = self._library.next_program(self._object, program)
        self._write_settings(request, syscall_results="handle_sys_exit" in wanted)

    def _write_settings(self, request: LoadRequest, *, syscall_results: bool) -> None:
        size = ctypes.c_size_t()
        section = self._library.find_map(self._object, b".rodata")
        address = self._library.initial_value(section, ctypes.byref(size)) if section else None
        if not address or size.value < _SETTINGS.size:
            raise AbiMismatch("The BPF object has no settings: rebuild it with `make bpf`.")
        (version,) = struct.unpack("<I", ctypes.string_at(address, 4))
        if version != schema.ABI_VERSION:
            raise AbiMismatch(
                f"The BPF object speaks event ABI {version}, this package {schema.ABI_VERSION}: "
                "rebuild it with `make bpf`."
            )
        scopes = request.scopes
        pad = [0] * (MAX_SCOPES - len(scopes))
        packed = _SETTINGS.pack(
            version,
            len(scopes),
            *[scope.cgroup_id for scope in scopes],
            *pad,
            *[scope.level for scope in scopes],
            *pad,
            int(syscall_results),
            request.gpu_lowest_major,
        )
        ctypes.memmove(address, packed, len(packed))

    def load(self) -> None:
        """Loads the marked programs; raises Refused with the one the kernel did not take."""
        self._library.log.clear()
        result = self._library.load(self._object)
        if result == 0:
            return
        for line in self._library.log:
            found = re.search(r"prog '(\w+)': ", line)
            if found and ("failed" in line or "error" in line.lower()):
                raise Refused(found[1], -result, self._reason(found[1], -result))
        text = "; ".join(self._library.log[-3:]) or os.strerror(-result)
        raise KernelUnsupported(
            f"Cannot load the BPF object: {text} (errno {errno.errorcode.get(-result, -result)}). "
            "Needs root or CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN."
        )

    def _reason(self, program: str, error: int) -> str:
        """The shortest true thing the kernel or libbpf said about the program."""
        if error == errno.EPERM:
            return "the kernel refuses this kind of hook (locked down, or no privilege)"
        if error in {errno.ENOENT, errno.ESRCH}:
            return "this kernel does not have the function"
        lines = [line for line in self._library.log if program in line]
        return (lines or [os.strerror(error)])[-1]

    def attach(self, names: Iterable[str], scopes: tuple[Scope, ...], root: Path) -> None:
        """Attaches the loaded programs; raises Refused with the one the kernel did not take."""
        for name in names:
            hook = PROGRAMS[name].hook
            if hook.startswith("raw_tp/"):
                continue  # run by the sensor, not by a hook
            if hook.startswith("cgroup/"):
                for directory in [scope.directory for scope in scopes] or [root]:
                    self._attach_cgroup(name, directory)
            else:
                self._keep(name, self._library.attach(self._program(name)))

    def _attach_cgroup(self, name: str, directory: Path) -> None:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._keep(name, self._library.attach_cgroup(self._program(name), descriptor))
        finally:
            os.close(descriptor)

    def _keep(self, name: str, link: int | None) -> None:
        if not link:
            error = ctypes.get_errno()
            raise Refused(name, error, self._reason(name, error))
        self._links.append(link)

    def detach(self) -> None:
        """Removes every program from its hook; maps stay."""
        while self._links:
            self._library.destroy_link(self._links.pop())

    def close(self) -> None:
        """Gives back programs and maps."""
        self.detach()
        if self._object:
            self._library.close(self._object)
            self._object = 0


class LibbpfLoader:
    """Attaches sets of programs from the prebuilt object."""

    name = "libbpf"

    def __init__(self, request: LoadRequest, path: Path = OBJECT) -> None:
        if not path.exists():
            raise SensorError(f"Cannot load {path}: it is not there. Build it with `make bpf`.")
        if not BTF.exists():
            raise KernelUnsupported(
                f"Cannot load the BPF object: the kernel has no BTF ({BTF} is missing). Needs "
                "CONFIG_DEBUG_INFO_BTF=y, or --loader bcc with kernel headers."
            )
        self._request = request
        self.path = path
        self._library = Libbpf()

    def attach(self, names: Iterable[str]) -> LibbpfAttachment:
        """Loads and attaches all of `names`, or raises Refused and leaves nothing behind."""
        names = list(names)
        handle = self._library.open(str(self.path).encode(), None)
        if not handle:
            raise AbiMismatch(f"Cannot read {self.path}: {'; '.join(self._library.log[-2:])}")
        attachment = LibbpfAttachment(self._library, handle)
        try:
            attachment.prepare(names, self._request)
            attachment.load()
            attachment.attach(names, self._request.scopes, self._request.cgroup_root)
        except BaseException:
            attachment.close()
            raise
        return attachment
