"""The parts of the harness that need no guest: configuration, cache, frames, scenario report."""

import json
import re
from pathlib import Path

import pytest
from harness import __main__ as cli
from harness import apt, cache, config, cpio, host, pythonimage
from harness.errors import BuildError, ConfigError, HostError, ScenarioError
from harness.guest import frames
from harness.scenario import parse
from harness.vm import Completed

RESULT = {
    "type": "result",
    "ok": True,
    "expected": [{"rule": "r", "cgroup": "/c"}],
    "alerts": [{"rule": "r", "cgroup": "/c", "severity": "high"}],
    "events": {"process_execs": 2},
    "plan": {"process_exec": "sched_process_exec"},
    "loader": "libbpf",
}


def completed(*lines: object, status: int = 0, stderr: bytes = b"") -> Completed:
    """Return a command's end whose output are the lines as JSON."""
    stdout = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    return Completed(status=status, stdout=stdout, stderr=stderr)


def test_the_shipped_machines_are_valid() -> None:
    """machines.toml parses, and its first machine is the one the tests boot."""
    assert next(iter(config.load().machines)) == "bookworm-6.1"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("cpus = 2", "cpu = 2", "unknown field `cpu`"),
        ("cpus = 2", 'cpus = "two"', "Expected `int`"),
        ("cpus = 2", "", "missing required field `cpus`"),
        ("cpus = 2", "cpus = = 2", "Cannot read"),
    ],
)
def test_a_wrong_machines_file_names_the_fault(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    """A key that is unknown, missing or of another type is an error that says which."""
    file = tmp_path / "machines.toml"
    file.write_text(config.MACHINES_FILE.read_text().replace(old, new))
    with pytest.raises(ConfigError, match=message):
        config.load(file)


def test_an_unknown_machine_names_the_known() -> None:
    """Asking for a machine that is not there lists those that are."""
    with pytest.raises(ConfigError, match=r"found bookworm-6\.1"):
        config.load().machine("no-such")


def test_the_cache_builds_once_and_keeps_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry is built once per input, and only the newest few of a kind stay."""
    monkeypatch.setenv("LIMES_CACHE", str(tmp_path))
    built: list[int] = []

    def make(number: int) -> Path:
        def build(draft: Path) -> None:
            built.append(number)
            (draft / "file").write_text(str(number))

        return cache.entry("kind", {"number": number}, build)

    paths = [make(number) for number in (0, 0, 1, 2)]
    assert built == [0, 1, 2]
    assert [path.exists() for path in paths] == [False, False, True, True]
    assert (paths[-1] / "file").read_text() == "2"


def test_a_build_that_fails_leaves_no_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed build the next request builds again."""
    monkeypatch.setenv("LIMES_CACHE", str(tmp_path))

    def fail(draft: Path) -> None:
        (draft / "half").touch()
        raise BuildError("broken")

    with pytest.raises(BuildError, match="broken"):
        cache.entry("kind", {}, fail)
    assert not [path for path in (tmp_path / "vm").iterdir() if path.is_dir()]
    assert cache.entry("kind", {}, lambda draft: (draft / "whole").touch()).exists()


def test_a_missing_tool_names_its_package() -> None:
    """The error for a missing tool says what to install."""
    with pytest.raises(HostError, match="apt-get install no-such-tool"):
        host.tool("no-such-tool")


def test_a_failing_tool_shows_its_last_words() -> None:
    """The error for a failed host command has its status and what it said."""
    with pytest.raises(BuildError, match=r"(?s)ended with 4.*it was me"):
        host.run(["sh", "-c", "echo it was me >&2; exit 4"])


def test_a_mirror_can_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """LIMES_DEBIAN_MIRROR names the archive; security suites lie beside it."""
    monkeypatch.setenv(apt.MIRROR_VARIABLE, "http://mirror.test/debian/")
    sources = apt.host_mirror().sources(["bookworm", "bookworm-security"]).splitlines()
    assert [line.split("] ")[1] for line in sources] == [
        "http://mirror.test/debian/ bookworm main",
        "http://mirror.test/debian-security bookworm-security main",
    ]


def test_requirements_come_from_the_project(tmp_path: Path) -> None:
    """The guest gets what the distribution and its extras require, and what the harness adds."""
    file = tmp_path / "pyproject.toml"
    file.write_text('[project]\ndependencies=["a"]\noptional-dependencies={x=["b>1"],y=["c"]}\n')
    wanted = config.Python(extras=("x",), packages=("pip",))
    assert pythonimage.requirements(wanted, file) == ["a", "b>1", "pip"]
    with pytest.raises(ConfigError, match="Looked for extra 'z'"):
        pythonimage.requirements(config.Python(extras=("z",), packages=()), file)


def test_frames_survive_any_cutting() -> None:
    """Frames come out whole and in order however the bytes are cut."""
    sent = [(frames.Kind.RUN, b"{}"), (frames.Kind.DATA, b""), (frames.Kind.OUT, bytes(1000))]
    decoder = frames.Decoder()
    received = []
    for byte in b"".join(frames.encode(*frame) for frame in sent):
        decoder.feed(bytes([byte]))
        while (frame := decoder.next()) is not None:
            received.append(frame)
    assert received == sent


def test_an_oversized_frame_is_refused() -> None:
    """A length beyond the bound is an error, not an allocation."""
    decoder = frames.Decoder()
    decoder.feed(b"\x01\xff\xff\xff\xff")
    with pytest.raises(ValueError, match="at most"):
        decoder.next()


def test_an_archive_holds_folders_before_their_files() -> None:
    """The kernel unpacks in order, so each folder of a member comes before it, and only once."""
    archive = cpio.archive(
        {
            "a/b/file": cpio.Member(content=b"content"),
            "a/run": cpio.Member(content=b"#!", mode=0o755),
        }
    )
    names = re.findall(rb"070701[0-9A-F]{104}([^\0]+)\0", archive)
    assert names == [b"a", b"a/b", b"a/b/file", b"a/run", b"TRAILER!!!"]


def test_a_report_is_read() -> None:
    """Events, alerts and the result come apart, and extra keys of an alert do not matter."""
    event = {"type": "event", "kind": "process_execs", "process_pid": 7}
    alert = {"type": "alert", "rule": "r", "cgroup": "/c"}
    report = parse(completed(event, alert, RESULT))
    assert report.of_kind("process_execs") == [event]
    assert report.alerts == (alert,)
    assert report.result.expected == report.result.alerts


@pytest.mark.parametrize(
    ("done", "message"),
    [
        (completed(status=3, stderr=b"no BTF"), r"(?s)exit status 3.*no BTF"),
        (completed({"type": "event"}), "no result as the last line"),
        (completed(RESULT, {"type": "event"}), "no result as the last line"),
        (completed(RESULT, RESULT), "no result as the last line"),
        (completed(RESULT, status=1), "ok = True but exit status 1"),
        (completed({**RESULT, "plan": None}), "plan"),
        (completed({"type": "rumour"}), "no known type"),
        (Completed(status=0, stdout=b"Traceback\n", stderr=b""), "no JSON"),
    ],
)
def test_output_that_breaks_the_contract_is_refused(done: Completed, message: str) -> None:
    """Each way in which the drill's output can be no report is an error that says which."""
    with pytest.raises(ScenarioError, match=message):
        parse(done)


def test_pushing_what_is_not_there_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong --env ends before anything is built, with status 2 and one line."""
    assert cli.main(["run", "--env", "novalue", "--", "true"]) == 2
    assert "--env wants NAME=VALUE, found 'novalue'" in capsys.readouterr().err
