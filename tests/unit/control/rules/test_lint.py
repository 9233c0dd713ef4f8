"""Lint: each fault of a rule is found, a good rule has none."""

from pathlib import Path

import pytest
from limes.control.errors import RuleError
from limes.control.rules.lint import Issue, lint, lint_folder
from limes.control.rules.load import load_pack
from limes.control.rules.lock import read_lock, write_lock

from tests.unit.control.rules.conftest import BAD, MakeRule

CASES = """
policy: {}
cases:
  - name: it began
    given:
      - process_execs: {process_executable: /bad, process_exec_id: 1, cgroup_path: /a}
    expect: [{cgroup_path: /a}]
  - name: another began
    given:
      - process_execs: {process_executable: /good, process_exec_id: 1, cgroup_path: /a}
    expect: []
  - name: nothing began
    given: []
    expect: []
"""


@pytest.fixture
def folder(make_rule: MakeRule, tmp_path: Path) -> Path:
    """A pack with one good rule, locked."""
    make_rule().cases_path.write_text(CASES)
    folder = tmp_path / "pack"
    write_lock(load_pack(folder))
    return folder


def found(folder: Path) -> list[tuple[str, str]]:
    return [(issue.code, issue.path.name) for issue in lint_folder(folder)]


def messages(issues: list[Issue]) -> str:
    return "\n".join(issue.message for issue in issues)


def test_a_good_rule_has_no_issue(folder: Path) -> None:
    """Otherwise the rest of these tests would prove nothing."""
    assert found(folder) == []


@pytest.mark.parametrize(
    ("replace", "code", "message"),
    [
        (("blind_spots: [Another name.]", "blind_spots: []"), "unsaid", "blind_spots is empty"),
        (("triage: [Look at the tree.]", "triage: []"), "unsaid", "triage is empty"),
        (("false_positives: [None is known.]", ""), "unsaid", "false_positives is empty"),
        (("attack: [T1059]", "attack: []"), "unsaid", "attack is empty"),
        (("attack: [T1059]", "attack: [T1059.1]"), "attack_id", "T1059.1 is no id"),
        (("attack: [T1059]", "attack: [TA0011]"), "attack_id", "TA0011 is no id"),
        (
            ("dedup_key: [cgroup_path]", "dedup_key: [cgroup]"),
            "unknown_column",
            "dedup_key names cgroup",
        ),
        (("[process_executable]", "[process_exe]"), "unknown_column", "process_execs.process_exe"),
        (("process_execs: [", "process_exec: ["), "unknown_kind", "process_exec: no such view"),
        (
            ("process_execs: [", "process_exits: ["),
            "unsaid",
            "reads process_execs, which requires lacks",
        ),
    ],
)
def test_a_fault_of_the_yml_is_found(
    folder: Path, make_rule: MakeRule, replace: tuple[str, str], code: str, message: str
) -> None:
    """By its code, at its line."""
    make_rule(replace=replace)
    issues = lint_folder(folder)
    assert code in [issue.code for issue in issues]
    assert message in messages(issues)


@pytest.mark.parametrize(
    ("replace", "code", "message"),
    [
        (("-- A program called /bad began.\n", ""), "no_header", "does not begin with a comment"),
        ((" -- key: the name", ""), "no_key", "no condition is marked"),
        (("process_executable = '/bad'", "no_column = '/bad'"), "sql", "no_column"),
        (("WHERE TRUE", "WEHRE TRUE"), "sql", "syntax error"),
        (
            ("FALSE AS simulated_device", "0 AS simulated_device"),
            "result_type",
            "simulated_device is INTEGER",
        ),
        (("FALSE AS simulated_device", "FALSE AS simulated"), "sql", "missing: simulated_device"),
    ],
)
def test_a_fault_of_the_sql_is_found(
    folder: Path, make_rule: MakeRule, replace: tuple[str, str], code: str, message: str
) -> None:
    """Without running it on any event."""
    make_rule(sql=BAD.replace(*replace), version=2)
    issues = lint_folder(folder)
    assert code in [issue.code for issue in issues]
    assert message in messages(issues)


@pytest.mark.parametrize(
    ("replace", "message"),
    [
        (("expect: [{cgroup_path: /a}]", "expect: []"), "no case expects an alert"),
        (("  - name: nothing began\n    given: []\n    expect: []\n", ""), "1 cases expect none"),
        (
            (
                "process_executable: /good, process_exec_id: 1",
                "process_executable: /good, process_exec_id: 2",
            ),
            "single field",
        ),
        (("name: nothing began", "name: it began"), "two cases are named 'it began'"),
        (
            ("process_executable: /bad,", "process_executabel: /bad,"),
            "no column process_executabel",
        ),
        (
            (
                "- process_execs: {process_executable: /bad",
                "- process_exec: {process_executable: /bad",
            ),
            "process_exec is no kind",
        ),
        (
            ("expect: [{cgroup_path: /a}]", "expect: [{cgroup: /a}]"),
            "expects cgroup, which alerts do not have",
        ),
        (("given: []", "gave: []"), "unknown field `gave`"),
        (("policy: {}", "policy: {job_class: [{name: x, cgroups: [x]}]}"), "does not begin with /"),
    ],
)
def test_a_fault_of_the_cases_is_found(
    folder: Path, replace: tuple[str, str], message: str
) -> None:
    """Cases that prove too little, and cases that cannot be read."""
    path = folder / "execution" / "bad_program.cases.yml"
    path.write_text(CASES.replace(*replace))
    assert replace[0] in CASES
    issues = [issue for issue in lint_folder(folder) if issue.code == "cases"]
    assert message in messages(issues)


def test_a_rule_without_cases_is_found(folder: Path) -> None:
    """Cases are no option."""
    (folder / "execution" / "bad_program.cases.yml").unlink()
    assert found(folder) == [("cases", "bad_program.cases.yml")]


def test_a_file_that_cannot_be_read_is_an_issue(folder: Path, make_rule: MakeRule) -> None:
    """The other rules are checked all the same."""
    make_rule("worse").path.write_text("name: [")
    make_rule(replace=("attack: [T1059]", "attack: [x]"))
    assert {"unreadable", "attack_id"} <= {code for code, _ in found(folder)}


def test_an_id_or_name_given_twice_is_found(folder: Path, make_rule: MakeRule) -> None:
    """Within the pack, and among other packs."""
    pack = load_pack(folder)
    twin = make_rule("twin")
    twin.cases_path.write_text(CASES)
    twin.path.write_text(twin.path.read_text().replace(twin.id, pack.rules[0].id))
    assert "duplicate_id" in [code for code, _ in found(folder)]
    issues = lint(pack, others=[pack])
    assert {"duplicate_id", "duplicate_name"} & {issue.code for issue in issues} == set()
    other = load_pack(folder)
    assert {"duplicate_id", "duplicate_name"} <= {i.code for i in lint(pack, others=[other])}


def test_sql_that_changes_without_its_version_is_found(folder: Path, make_rule: MakeRule) -> None:
    """And cannot be locked; with a new version it can."""
    changed = BAD.replace("'/bad'", "'/worse'")
    make_rule(sql=changed)
    assert "raise the version" in messages(lint_folder(folder))
    with pytest.raises(RuleError, match="raise the version"):
        write_lock(load_pack(folder))
    make_rule(sql=changed, version=2)
    assert "run `limes rules lint --lock`" in messages(lint_folder(folder))
    assert write_lock(load_pack(folder)) == ["bad_program"]
    assert read_lock(load_pack(folder))["bad_program"].version == 2
    assert "lock" not in [code for code, _ in found(folder)]
    make_rule(sql=changed, version=1)
    assert "a version only grows" in messages(lint_folder(folder))


def test_comments_and_spacing_may_change(folder: Path, make_rule: MakeRule) -> None:
    """The lock is about what the rule does."""
    make_rule(sql=BAD.replace("WHERE TRUE\n", "-- Reason.\nWHERE\n    TRUE\n"))
    assert found(folder) == []


def test_a_rule_that_is_locked_but_gone_is_found(folder: Path, make_rule: MakeRule) -> None:
    """As is one whose id changed, and a lock file that cannot be read."""
    lock = folder / "versions.lock"
    text = lock.read_text()
    lock.write_text(text + text[text.index("[") :].replace("[bad_program]", "[gone]"))
    assert "the pack has no such rule" in messages(lint_folder(folder))
    lock.write_text(text.replace('id = "', 'id = "0'))
    assert "an id never changes" in messages(lint_folder(folder))
    lock.write_text("[bad_program")
    assert "cannot be read" in messages(lint_folder(folder))
