"""The SQL that reads ssh's arguments, beside a reader of our own that works as getopt does."""

from collections.abc import Sequence

from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from limes.control.policy import install_policy, parse_policy
from limes.control.rules.batch import MicroBatch
from limes.control.rules.given import events_of
from limes.control.rules.load import load_pack, shipped_packs
from limes.control.rules.scratch import Scratch

# ssh(1) of OpenSSH 9: a colon follows each option that has a value.
OPTIONS = "1246ab:c:e:fgi:kl:m:no:p:qstvxAB:CD:E:F:GI:J:KL:MNO:P:Q:R:S:TVw:W:XYy"
VALUED = {OPTIONS[i] for i in range(len(OPTIONS) - 1) if OPTIONS[i + 1] == ":"}
PLAIN = set(OPTIONS) - VALUED - {":"}
FOLDER = next(folder for folder in shipped_packs() if folder.name == "training_host")
RULE = next(r for r in load_pack(FOLDER).rules if r.name == "ssh_tunnel_command_line")


def options_of(arguments: Sequence[str]) -> list[tuple[str, str]] | None:
    """Return (letter, value) of each option that ssh takes; None when it refuses."""
    found: list[tuple[str, str]] = []
    rest = list(arguments)
    for _ in range(2):  # before the destination, and once more after it
        while rest and rest[0].startswith("-") and rest[0] != "-":
            word = rest.pop(0)
            if word == "--":
                break
            letters = word[1:]
            while letters:
                letter, letters = letters[0], letters[1:]
                if letter in PLAIN:
                    continue
                if letter not in VALUED or not (letters or rest):
                    return None
                found.append((letter, letters or rest.pop(0)))
                letters = ""
        if not rest:
            break
        if rest[0].startswith("-"):
            return None  # no destination begins so
        rest.pop(0)
    return found


def is_tunnel(arguments: Sequence[str]) -> bool | None:
    """Return whether ssh would open a tunnel; None when it refuses its arguments."""
    options = options_of(arguments)
    if options is None:
        return None
    for letter, value in options:
        if letter in "RLDwW":
            return True
        words = value.replace("=", " ").replace('"', " ").split()
        if letter == "o" and len(words) > 1:
            keyword = words[0].lower()
            if keyword in ("remoteforward", "localforward", "dynamicforward"):
                return True
            if keyword == "tunnel" and words[1].lower() in ("yes", "point-to-point", "ethernet"):
                return True
    return False


flags = st.text(st.sampled_from(sorted(PLAIN)), min_size=0, max_size=3)
values = st.sampled_from(
    [
        *(
            "2222:localhost:22",
            "1080",
            "-R",
            "-L",
            "-N",
            "--",
            "RSA",
            "u@h",
            "0:0",
            "",
            "a b",
            "-o",
        ),
        *("RemoteForward=1 h:2", "localforward 1 h:2", "DynamicForward = 9", '"RemoteForward" 1'),
        *("Tunnel=no", "tunnel yes", "Tunnel ethernet", "BatchMode=yes", "SetEnv=RemoteForward=1"),
    ]
)
letters = st.sampled_from(sorted(VALUED))
joined = st.builds(lambda f, c, v: [f"-{f}{c}{v}"], flags, letters, values.filter(bool))
apart = st.builds(lambda f, c, v: [f"-{f}{c}", v], flags, letters, values)
plain = flags.filter(bool).map(lambda f: [f"-{f}"])
others = st.sampled_from([["h"], ["u@h"], ["--"], ["ls"], ["-R"], ["grep", "-R", "x"]])
words: st.SearchStrategy[list[str]] = st.lists(
    st.one_of(joined, apart, plain, others), max_size=7
).map(lambda parts: [word for part in parts for word in part])


# Shrinking would take minutes: a failing line is short enough to read.
@given(lines=st.lists(words, min_size=100, max_size=100))
@settings(max_examples=12, deadline=None, phases=[Phase.explicit, Phase.generate])
@example(lines=[["--", "h", "-R", "1"], ["h", "ls", "-R"], ["-l", "", "h", "-D1"], ["-D", ""]])
def test_the_sql_finds_what_ssh_would_do(lines: list[list[str]]) -> None:
    """It agrees with getopt's reading on every line that ssh would take."""
    row = {"process_executable": "/usr/bin/ssh", "cgroup_path": "/jobs/a"}
    given = [
        {"process_execs": {**row, "process_exec_id": n, "process_args": ["ssh", *line]}}
        for n, line in enumerate(lines, start=1)
    ]
    policy = '[[job_class]]\nname = "a"\ncgroups = ["/jobs/*"]\n'
    with Scratch() as scratch, scratch.store.cursor() as cursor:
        last = scratch.commit(events_of(given))
        install_policy(cursor, parse_policy(policy, source="test"))
        MicroBatch(cursor, frozenset(RULE.kinds)).fill(0, last, frozenset(RULE.kinds))
        cursor.execute(RULE.sql)
        names = [column[0] for column in cursor.description or ()]
        found = {row[names.index("process_exec_id")] for row in cursor.fetchall()}
    for n, line in enumerate(lines, start=1):
        expected = is_tunnel(line)
        if expected is not None:
            assert (n in found) is expected, line
