"""The policy file: what it may say, what is wrong with it, the tables it becomes."""

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from limes.control.errors import PolicyError
from limes.control.policy import (
    DEFAULT_INTERNAL,
    AllowEntry,
    JobClassEntry,
    Policy,
    PolicyFile,
    cgroup_regex,
    install_policy,
    load_policy,
    parse_policy,
)
from limes.control.store.connection import Store, open_store

GOOD = """
internal = ["10.0.0.0/8"]

[[job_class]]
name = "training"
cgroups = ["/slurm/job_*", "/kube/**/pod-?"]
trainers = ["/usr/bin/python3.11"]

[[job_class.allow]]
cidr = "198.51.100.0/24"
ports = [22]
executables = ["/usr/bin/ssh"]

[[job_class.allow]]
cidr = "2001:db8::/32"

[[job_class]]
name = "sandbox"
cgroups = ["/slurm/job_7"]
"""


@pytest.fixture
def store() -> Iterator[Store]:
    store = open_store(None)
    yield store
    store.close()


def rows(store: Store, sql: str) -> list[tuple[object, ...]]:
    with store.cursor() as cursor:
        return cursor.execute(sql).fetchall()


def with_policy(store: Store, text: str) -> None:
    with store.cursor() as cursor:
        install_policy(cursor, parse_policy(text, source="policy.toml"))


def name_cgroups(store: Store, *paths: str) -> None:
    with store.cursor() as cursor:
        for number, path in enumerate(paths, start=1):
            cursor.execute(
                "INSERT INTO cgroups SELECT 'host-1', 'boot-1', $1, $2, 1, '', '', '', '', '', '',"
                " current_localtimestamp()",
                [number, path],
            )


def test_a_good_file_is_read_whole(tmp_path: Path) -> None:
    """Classes, patterns, trainers and destinations come out as written."""
    path = tmp_path / "policy.toml"
    path.write_text(GOOD)
    policy = load_policy(path)
    training, sandbox = policy.job_classes
    assert (training.name, training.patterns) == ("training", ("/slurm/job_*", "/kube/**/pod-?"))
    assert training.allowed[0].network == ip_network("198.51.100.0/24")
    assert (training.allowed[1].ports, training.allowed[1].executables) == ((), ())
    assert (sandbox.trainers, sandbox.allowed) == ((), ())
    assert policy.internal == (ip_network("10.0.0.0/8"),)


def test_an_empty_file_knows_no_job_and_the_private_networks() -> None:
    """Nothing said is a policy as well."""
    assert parse_policy("", source="x") == Policy()


@pytest.mark.parametrize(
    ("change", "key", "conflict"),
    [
        (
            ('cidr = "198.51.100.0/24"', 'cidr = "198.51.100.1/24"'),
            "job_class[0].allow[0].cidr",
            "host bits",
        ),
        (('cidr = "2001:db8::/32"', 'cidr = "nowhere"'), "job_class[0].allow[1].cidr", "nowhere"),
        (("ports = [22]", "ports = [70000]"), "job_class[0].allow[0].ports[0]", "70000"),
        (("ports = [22]", 'ports = ["ssh"]'), "job_class[0].allow[0].ports[0]", "int"),
        (("ports = [22]", "port = 22"), "job_class[0].allow[0]", "port"),
        (('"/usr/bin/ssh"', '"ssh"'), "job_class[0].allow[0].executables[0]", "absolute"),
        (
            ('"/usr/bin/python3.11"', '"/usr/bin/../bin/python3"'),
            "job_class[0].trainers[0]",
            "resolved",
        ),
        (
            ('"/slurm/job_7"', '"/slurm/job_*"'),
            "job_class[1].cgroups[0]",
            "job_class[0].cgroups[0]",
        ),
        (('"/slurm/job_7"', '"slurm/job_7"'), "job_class[1].cgroups[0]", "does not begin with /"),
        (('"/slurm/job_7"', '"/slurm//job_7"'), "job_class[1].cgroups[0]", "empty"),
        (('"/slurm/job_7"', '"/**"'), "job_class[1].cgroups[0]", "every process"),
        (('"/slurm/job_7"', '"/"'), "job_class[1].cgroups[0]", "every process"),
        (('["/slurm/job_7"]', "[]"), "job_class[1].cgroups", "empty"),
        (('name = "sandbox"', 'name = "training"'), "job_class[1].name", "job_class[0].name"),
        (('name = "sandbox"', 'name = ""'), "job_class[1].name", "empty"),
        (('"10.0.0.0/8"', '"10.0.0.0/99"'), "internal[0]", "10.0.0.0/99"),
        (("internal =", "intern ="), "the file", "intern"),
    ],
)
def test_a_fault_is_named_by_file_key_and_conflict(
    change: tuple[str, str], key: str, conflict: str
) -> None:
    """One line says where and what."""
    with pytest.raises(PolicyError) as caught:
        parse_policy(GOOD.replace(*change), source="/etc/limes/policy.toml")
    text = str(caught.value)
    assert "/etc/limes/policy.toml" in text
    assert f" {key}" in text
    assert conflict in text
    assert "\n" not in text


def test_a_file_that_is_not_toml_says_so() -> None:
    """The parser's place is passed on."""
    with pytest.raises(PolicyError, match=r"policy\.toml: it is not TOML"):
        parse_policy("[[job_class", source="policy.toml")


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    """So does one that cannot be read as text."""
    with pytest.raises(PolicyError, match="No such file"):
        load_policy(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(PolicyError, match="not UTF-8"):
        load_policy(tmp_path / "bad.toml")


@pytest.mark.parametrize(
    ("pattern", "path", "job"),
    [
        ("/jobs/job_*", "/jobs/job_2", "/jobs/job_2"),
        ("/jobs/job_*", "/jobs/job_2/tool_7/x", "/jobs/job_2"),
        ("/jobs/job_*", "/jobs/other", None),
        ("/jobs/job_*", "/jobs", None),
        ("/jobs/job_*", "/x/jobs/job_2", None),
        ("/jobs/*", "/jobs/a", "/jobs/a"),
        ("/jobs/job_?", "/jobs/job_12", None),
        ("/jobs/job_[0-9]", "/jobs/job_4/a", "/jobs/job_4"),
        ("/jobs/job_[!0-9]", "/jobs/job_4", None),
        ("/jobs/job_[!0-9]", "/jobs/job_x", "/jobs/job_x"),
        ("/jobs/job.1", "/jobs/jobx1", None),
        ("/kube/**/pod*", "/kube/a/b/pod1/c", "/kube/a/b/pod1"),
        ("/kube/**/pod*", "/kube/pod1/x/pod2", "/kube/pod1"),
        ("/kube/**", "/kube/a", "/kube"),
        ("/a(b)+|c", "/a(b)+|c/d", "/a(b)+|c"),
    ],
)
def test_a_pattern_names_the_job_and_what_lies_below(
    store: Store, pattern: str, path: str, job: str | None
) -> None:
    """`*` stays within one level, `**` does not; the job is the shortest path that fits."""
    with store.cursor() as cursor:
        cursor.execute(
            "SELECT regexp_extract($2, $1, 1), regexp_matches($2, $1)",
            [cgroup_regex(pattern), path],
        )
        found = cursor.fetchone()
    assert found == (job or "", job is not None)


def test_each_cgroup_belongs_to_the_first_pattern_that_fits(store: Store) -> None:
    """Also when the policy is installed after the cgroups were seen, and when it changes."""
    name_cgroups(store, "/slurm/job_7", "/slurm/job_8/step_0", "/kube/x/pod-1", "/system.slice")
    with_policy(store, GOOD)
    jobs = "SELECT cgroup_path, job_class, job_cgroup_path FROM hunt.job_cgroups ORDER BY cgroup_id"
    assert rows(store, jobs) == [
        ("/slurm/job_7", "training", "/slurm/job_7"),
        ("/slurm/job_8/step_0", "training", "/slurm/job_8"),
        ("/kube/x/pod-1", "training", "/kube/x/pod-1"),
    ]
    with_policy(store, '[[job_class]]\nname = "all"\ncgroups = ["/system.slice"]\n')
    assert rows(store, jobs) == [("/system.slice", "all", "/system.slice")]


def test_installing_replaces_every_table(store: Store) -> None:
    """Nothing of the policy before is left."""
    with_policy(store, GOOD)
    assert rows(store, "SELECT job_class, process_executable FROM policy_trainers") == [
        ("training", "/usr/bin/python3.11")
    ]
    with_policy(store, "internal = []")
    for table in ("policy_jobs", "policy_trainers", "policy_allow", "policy_internal"):
        assert rows(store, f"SELECT count(*) FROM {table}") == [(0,)]


def test_a_policy_that_cannot_be_installed_leaves_the_old_one(store: Store) -> None:
    """It is one transaction."""
    with_policy(store, GOOD)
    with store.cursor() as cursor:
        cursor.execute("ALTER TABLE policy_internal RENAME TO gone")
    with pytest.raises(duckdb.Error):
        with_policy(store, "")
    assert rows(store, "SELECT count(*) FROM policy_jobs") == [(3,)]


def allows(
    store: Store, address: str, port: int, executable: str, job_class: str = "training"
) -> bool:
    number = value(address)
    with store.cursor() as cursor:
        cursor.execute(
            "SELECT policy_allows($1, ip_value($2, $3), $4, $5)",
            [job_class, number >> 64, number & (2**64 - 1), port, executable],
        )
        row = cursor.fetchone()
    assert row is not None
    return bool(row[0])


def value(address: str) -> int:
    parsed = ip_address(address)
    return int(parsed) + (0xFFFF << 32 if parsed.version == 4 else 0)


@pytest.mark.parametrize(
    ("address", "port", "executable", "allowed"),
    [
        ("198.51.100.0", 22, "/usr/bin/ssh", True),
        ("198.51.100.255", 22, "/usr/bin/ssh", True),
        ("198.51.99.255", 22, "/usr/bin/ssh", False),
        ("198.51.101.0", 22, "/usr/bin/ssh", False),
        ("198.51.100.7", 23, "/usr/bin/ssh", False),
        ("198.51.100.7", 22, "/tmp/ssh", False),
        ("2001:db8:ffff::1", 9, "/bin/anything", True),
        ("2001:db9::", 9, "/bin/anything", False),
    ],
)
def test_what_is_listed_is_allowed(
    store: Store, address: str, port: int, executable: str, allowed: bool
) -> None:
    """Address, port and executable must all fit; empty lists fit all."""
    with_policy(store, GOOD)
    assert allows(store, address, port, executable) is allowed
    assert not allows(store, address, port, executable, job_class="sandbox")


@pytest.fixture(scope="module")
def plain_store() -> Iterator[Store]:
    """A store with the policy of an empty file."""
    store = open_store(None)
    with_policy(store, "")
    yield store
    store.close()


def check_scopes(store: Store, address: str) -> None:
    """Compare what the macros say of an address with what the standard library and RFCs do."""
    parsed = ip_address(address)
    plain = getattr(parsed, "ipv4_mapped", None) or parsed
    internal = [ip_network(text) for text in DEFAULT_INTERNAL]
    expected = (
        plain.is_loopback or plain.is_unspecified,
        plain.is_link_local or plain.is_multicast or str(plain) == "255.255.255.255",
        any(plain in network for network in internal if network.version == plain.version),
    )
    number = value(address)
    with store.cursor() as cursor:
        cursor.execute(
            "SELECT ip_is_loopback(v), ip_is_link(v), ip_is_internal(v)"
            " FROM (SELECT ip_value($1::UBIGINT, $2::UBIGINT) AS v)",
            [number >> 64, number & (2**64 - 1)],
        )
        assert cursor.fetchone() == expected


@given(address=st.ip_addresses())
@settings(deadline=None)
def test_scopes_agree_with_the_standard_library(
    plain_store: Store, address: IPv4Address | IPv6Address
) -> None:
    """Loopback, link and internal are what the RFCs say they are."""
    check_scopes(plain_store, str(address))


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.0", "127.255.255.255", "126.255.255.255", "128.0.0.0", "0.0.0.0", "0.0.0.1"),
        *("169.254.0.0", "169.254.255.255", "169.253.255.255", "169.255.0.0", "255.255.255.255"),
        *("223.255.255.255", "224.0.0.0", "239.255.255.255", "240.0.0.0", "172.15.255.255"),
        *("172.16.0.0", "172.32.0.0", "100.63.255.255", "100.64.0.0", "100.128.0.0"),
        *("::", "::1", "::2", "fe80::", "febf:ffff::", "fec0::", "ff00::", "feff::"),
        *("fbff::", "fc00::", "fdff::", "fe00::"),
    ],
)
def test_scopes_at_the_edges(plain_store: Store, address: str) -> None:
    """Each first and last address, and its neighbours."""
    check_scopes(plain_store, address)


def test_the_example_is_a_policy() -> None:
    """The file that is shipped can be used as it is, and shows every key."""
    path = Path(__file__).parents[3] / "control" / "policy.example.toml"
    policy = load_policy(path)
    assert [job_class.name for job_class in policy.job_classes] == ["training", "sandbox"]
    assert policy.internal == Policy().internal
    text = path.read_text()
    keys = [*PolicyFile.__struct_fields__, *JobClassEntry.__struct_fields__]
    for key in [*keys, *AllowEntry.__struct_fields__]:
        assert re.search(rf"^(\[\[.*)?{key}\b", text, re.MULTILINE), key
