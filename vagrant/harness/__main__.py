"""Owns the command line of the harness: it parses, calls and prints.

Exit status: the guest command's (128 + n for signal n), else 2 for usage, 3 when it cannot run.
"""

import argparse
import os
import shutil
import sys
import tempfile
import termios
import time
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness import config, vm, wheel
from harness.errors import ConfigError, HarnessError
from harness.export import export
from harness.guest.frames import Kind
from harness.scenario import play

_USAGE_ERROR = 2
_CANNOT_RUN = 3
_INTERRUPTED = 130
_EXPORT_FOLDER = config.VAGRANT_DIR / ".vagrant" / "limes"
# A shell ends when its user leaves it.
_SHELL_SECONDS = 7 * 24 * 3600.0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m harness",
        description="Boot a guest under emulation and run commands inside.",
        epilog="example: python -m harness run --push probe.o -- ls -l /root/probe.o",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    machine = argparse.ArgumentParser(add_help=False)
    machine.add_argument("--machine", metavar="NAME", help="a machine of machines.toml (the first)")
    commands.add_parser("machines", help="list the machines")
    commands.add_parser("prepare", parents=[machine], help="build and fetch what a boot needs")
    run = commands.add_parser("run", parents=[machine], help="run one command in a fresh guest")
    _add_guest_options(run)
    run.add_argument("--timeout", type=float, default=600, metavar="SECONDS", help="600 by default")
    run.add_argument(
        "--icount", action="store_true", help="one CPU, 1 ns of guest time/instruction"
    )
    run.add_argument("argv", nargs="+", metavar="CMD", help="the command, after --")
    drill = commands.add_parser("drill", parents=[machine], help="install Limes, play the drill")
    drill.add_argument("--loader", choices=("libbpf", "bcc"), default="libbpf")
    drill.add_argument(
        "--timeout", type=float, default=600, metavar="SECONDS", help="600 by default"
    )
    export = commands.add_parser(
        "export", parents=[machine], help="write what the Vagrantfile boots to .vagrant/limes"
    )
    export.add_argument("folder", nargs="?", type=Path, default=_EXPORT_FOLDER)
    shell = commands.add_parser("shell", parents=[machine], help="open a shell in a fresh guest")
    _add_guest_options(shell)
    return parser


def _add_guest_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--push",
        action="append",
        default=[],
        metavar="FILE[:GUEST]",
        help="copy a file or a folder into the guest first; by default into /root",
    )
    parser.add_argument(
        "--pull",
        action="append",
        default=[],
        metavar="GUEST[:FILE]",
        help="copy a file out afterwards; by default into the current directory",
    )
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")


def _say(text: str) -> None:
    print(f"harness: {text}", file=sys.stderr, flush=True)


@contextmanager
def _guest(options: argparse.Namespace, *, icount: bool = False) -> Iterator[vm.Guest]:
    """Give a guest with the files pushed; pull the files when the block is left normally."""
    prepared = vm.prepare(config.load(), options.machine)
    started = time.monotonic()
    with vm.boot(prepared, icount=icount) as guest:
        _say(f"{guest.kernel_release} up in {time.monotonic() - started:.1f} s")
        for item in options.push:
            _push(guest, item)
        yield guest
        for item in options.pull:
            source, _, target = item.partition(":")
            Path(target or Path(source).name).write_bytes(guest.pull(source))


def _push(guest: vm.Guest, item: str) -> None:
    name, _, destination = item.partition(":")
    source = Path(name)
    if not source.exists():
        raise ConfigError(f"Looked for {source} to push and found nothing. Correct --push.")
    destination = destination or f"/root/{source.resolve().name}"
    if source.is_dir():
        guest.push_tree(source, destination)
    else:
        guest.push(source, destination)


def _environment(options: argparse.Namespace) -> dict[str, str]:
    environment = {}
    for item in options.env:
        name, found, value = item.partition("=")
        if not found:
            raise ConfigError(f"--env wants NAME=VALUE, found {item!r}. Correct it.")
        environment[name] = value
    return environment


def _machines(_options: argparse.Namespace) -> int:
    for name, machine in config.load().machines.items():
        print(f"{name}\t{machine.kernel_package} from {machine.suites[0]}")
    return 0


def _prepare(options: argparse.Namespace) -> int:
    started = time.monotonic()
    prepared = vm.prepare(config.load(), options.machine)
    _say(f"{prepared.emulator.version}; kernel {prepared.kernel.release}")
    _say(f"ready after {time.monotonic() - started:.1f} s")
    return 0


def _run(options: argparse.Namespace) -> int:
    environment = _environment(options)
    with _guest(options, icount=options.icount) as guest:
        done = guest.run(
            options.argv,
            timeout=options.timeout,
            env=environment,
            on_stdout=lambda data: os.write(1, data),
            on_stderr=lambda data: os.write(2, data),
        )
    return _shell_status(done.status)


def _shell(options: argparse.Namespace) -> int:
    if not sys.stdin.isatty():
        raise ConfigError("`shell` wants a terminal on standard input. Use `run` instead.")
    columns, rows = shutil.get_terminal_size()
    with _guest(options) as guest, _raw_terminal():
        guest.link.watch(0, lambda: guest.link.send(Kind.INPUT, os.read(0, 4096)))
        done = guest.run(
            ["/bin/bash", "-l"],
            timeout=_SHELL_SECONDS,
            env={"TERM": os.environ.get("TERM", "dumb"), **_environment(options)},
            on_stdout=lambda data: os.write(1, data),
            terminal=(rows, columns),
        )
    return _shell_status(done.status)


def _drill(options: argparse.Namespace) -> int:
    prepared = vm.prepare(config.load(), options.machine)
    with tempfile.TemporaryDirectory(prefix="limes-wheel-") as folder:
        built = wheel.build(Path(folder))
        with vm.boot(prepared) as guest:
            report = play(
                guest,
                built,
                options.loader,
                timeout=options.timeout,
                on_stdout=lambda data: os.write(1, data),
                on_stderr=lambda data: os.write(2, data),
            )
    return report.status


def _export(options: argparse.Namespace) -> int:
    export(vm.prepare(config.load(), options.machine), options.folder.absolute())
    _say(f"wrote {options.folder}")
    return 0


@contextmanager
def _raw_terminal() -> Iterator[None]:
    before = termios.tcgetattr(0)
    tty.setraw(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def _shell_status(status: int) -> int:
    return status if status >= 0 else 128 - status


_COMMANDS = {
    "machines": _machines,
    "prepare": _prepare,
    "run": _run,
    "shell": _shell,
    "drill": _drill,
    "export": _export,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command of the harness and return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        return _COMMANDS[options.command](options)
    except ConfigError as error:
        _say(str(error))
        return _USAGE_ERROR
    except HarnessError as error:
        _say(str(error))
        return _CANNOT_RUN
    except KeyboardInterrupt:
        _say("interrupted")
        return _INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
