"""Rules from files: what they say, and what is wrong with them, by file and line."""

from pathlib import Path

import pytest
from limes.control.errors import RuleError
from limes.control.rules.load import as_plain, load_pack, read_pack, read_rule, shipped_packs

from tests.unit.control.rules.conftest import BAD, MakeRule


def test_a_rule_says_what_its_files_say(make_rule: MakeRule) -> None:
    """Durations are seconds; kinds are those the SQL reads as new."""
    rule = make_rule(dedup_window="30m", window="1d")
    assert (rule.dedup_window, rule.window) == (1800, 86400)
    assert (rule.kinds, rule.on_signals) == (("process_execs",), False)
    assert rule.sql_path.read_text() == BAD
    assert "sql" not in as_plain(rule)


def test_a_kind_named_in_a_comment_is_not_read(make_rule: MakeRule) -> None:
    """Nor does a comment change the hash; a changed condition does."""
    rule = make_rule()
    commented = make_rule(
        sql="-- new_connections, new_signals\n" + BAD.replace("\n    AND", "\n\n  AND")
    )
    assert (commented.kinds, commented.sql_hash) == (rule.kinds, rule.sql_hash)
    assert make_rule(sql=BAD.replace("/bad'", "/bad '")).sql_hash != rule.sql_hash
    assert make_rule(sql=BAD.replace("'/bad'", "'--bad'")).sql_hash != rule.sql_hash


@pytest.mark.parametrize(
    ("replace", "line", "reason"),
    [
        (("severity: high", "severity: awful"), 5, "severity: Invalid enum value 'awful'"),
        (("version: 1", "version: one"), 3, "version: Expected `int`"),
        (("dedup_window: 1h", "dedup_window: 1 hour"), 14, "such as 30m"),
        (("window: 0s", "window: soon"), 15, "such as 30m"),
        (("dedup_window: 1h", "dedup_window: 0m"), 0, "longer than 0s"),
        (("triage:", "tirage:"), 0, "unknown field `tirage`"),
        (("name: bad_program", "name: other"), 2, "the file is bad_program.yml"),
        (("id: ", "id: x"), 1, "id: Invalid UUID"),
        (("attack: [T1059]", "attack: [T1059"), 8, "is not YAML"),
        (("dedup_key: [cgroup_path]", ""), 0, "dedup_key"),
    ],
)
def test_a_fault_is_named_by_file_line_and_key(
    make_rule: MakeRule, replace: tuple[str, str], line: int, reason: str
) -> None:
    """The reader finds the place without looking."""
    with pytest.raises(RuleError) as caught:
        make_rule(replace=replace)
    assert caught.value.path.name == "bad_program.yml"
    assert caught.value.line == line
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_rule_without_sql_says_so(make_rule: MakeRule) -> None:
    """The SQL lies beside the rule."""
    rule = make_rule()
    rule.sql_path.unlink()
    with pytest.raises(RuleError, match="no readable SQL"):
        read_rule(rule.path, pack="mine")


def test_reading_a_pack_collects_every_fault(make_rule: MakeRule, tmp_path: Path) -> None:
    """The good rules come with the faults; loading raises the first fault."""
    make_rule("good")
    for name in ("worse", "worst"):
        make_rule(name).sql_path.unlink()
    folder = tmp_path / "pack"
    pack, errors = read_pack(folder)
    assert [rule.name for rule in pack.rules] == ["good"]
    assert [error.path.stem for error in errors] == ["worse", "worst"]
    with pytest.raises(RuleError, match="worse"):
        load_pack(folder)


def test_a_folder_that_is_no_pack_says_so(tmp_path: Path) -> None:
    """Empty, or without pack.yml."""
    with pytest.raises(RuleError, match=r"pack\.yml"):
        load_pack(tmp_path)
    (tmp_path / "pack.yml").write_text("name: mine\ndescription: None.\n")
    with pytest.raises(RuleError, match=r"no <tactic>/<rule>\.yml"):
        load_pack(tmp_path)


def test_the_shipped_packs_load() -> None:
    """Every pack that comes with Limes can be used."""
    assert "training_host" in [load_pack(folder).name for folder in shipped_packs()]
