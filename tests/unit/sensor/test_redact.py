"""Secrets in command lines: what is replaced, and what only looks like one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from limes.sensor import redact, strings
from limes.v1 import schema

HEX = "9f86d081884c7d659a2feaa0c55ad015"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"

# Each command line with the words that must be gone; everything else must stay.
SECRETS = {
    "option and value": ("tool --password hunter2 run", ["hunter2"]),
    "option=value": ("tool --password=hunter2 run", ["hunter2"]),
    "single dash": ("tool -password hunter2", ["hunter2"]),
    "prefixed option": ("pg_dump --db-password hunter2", ["hunter2"]),
    "token option": ("gitlab-runner register --registration-token GR1348941xyz", ["GR1348941xyz"]),
    "api key option": ("tool --api-key=abc123", ["abc123"]),
    "api_key option": ("tool --openai_api_key abc123", ["abc123"]),
    "secret option": ("vault write --client-secret s3cr3t", ["s3cr3t"]),
    "secret access key": (
        "aws configure set aws_secret_access_key=wJalrXUtnFEMI",
        ["wJalrXUtnFEMI"],
    ),
    "environment": ("env API_KEY=abc123 python train.py", ["abc123"]),
    "environment, token": ("env HF_TOKEN=hf123 python", ["hf123"]),
    "environment, password": ("env PGPASSWORD=hunter2 psql", ["hunter2"]),
    "environment, secret with number": ("env DB_PASSWORD_2=hunter2 app", ["hunter2"]),
    "environment, wandb": (f"env WANDB_API_KEY={HEX} python train.py", [HEX]),
    "java property": ("java -Ddb.password=hunter2 -jar app.jar", ["hunter2"]),
    "json": ('curl -d {"password":"hunter2","user":"bob"} https://x.example', ["hunter2"]),
    "query": ("curl https://x.example/v1?access_token=abc123&page=2", ["abc123"]),
    "url credentials": ("git clone https://bob:hunter2@git.example/x.git", ["hunter2"]),
    "url token user": (
        "pip install git+https://x-token-auth:abcDEF@bitbucket.example/r",
        ["abcDEF"],
    ),
    "database url": ("psql postgresql://app:hunter2@db:5432/prod", ["hunter2"]),
    "redis url without user": ("celery -b redis://:hunter2@redis:6379/0", ["hunter2"]),
    "proxy": ("curl -x http://bob:hunter2@proxy:3128 https://x.example", ["hunter2"]),
    "bearer": ("curl -H 'Authorization: Bearer abc.def-123' https://x.example", ["abc.def-123"]),
    "basic": ("curl -H 'Authorization: Basic Ym9iOnB3' https://x.example", ["Ym9iOnB3"]),
    "authorization token": ("curl -H 'authorization: token abc123'", ["abc123"]),
    "key header": ("curl -H 'X-Api-Key: abc123' https://x.example", ["abc123"]),
    "cookie header": ("curl -H 'Cookie: session=abc123' https://x.example", ["session=abc123"]),
    "github": (f"gh auth ghp_{HEX}abcd", [f"ghp_{HEX}abcd"]),
    "github fine-grained": (f"x github_pat_11AA_{HEX}", [f"github_pat_11AA_{HEX}"]),
    "hugging face": (f"huggingface-cli login {'hf_' + HEX}", ["hf_" + HEX]),
    "openai": (f"llm keys set openai sk-proj-{HEX}", [f"sk-proj-{HEX}"]),
    "gitlab": (f"glab glpat-{HEX}", [f"glpat-{HEX}"]),
    "slack": ("notify xoxb-1234567890-abcdef", ["xoxb-1234567890-abcdef"]),
    "google": (f"x AIza{HEX}xyz", [f"AIza{HEX}xyz"]),
    "aws key id": ("x AKIAIOSFODNN7EXAMPLE", ["AKIAIOSFODNN7EXAMPLE"]),
    "jwt": (f"wscat -c wss://x.example {JWT}", [JWT]),
    "private key": (
        "x -----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY----- y",
        ["MIIEow"],
    ),
    "private key, cut": ("x -----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNz", ["b3BlbnNz"]),
    "sshpass": ("sshpass -p hunter2 ssh bob@203.0.113.9", ["hunter2"]),
    "sshpass, joined": ("/usr/bin/sshpass -phunter2 ssh bob@203.0.113.9", ["hunter2"]),
    "sshpass behind sudo": ("sudo sshpass -p hunter2 ssh bob@203.0.113.9", ["hunter2"]),
    "mysql": ("mysql -u root -phunter2 prod", ["hunter2"]),
    "mysqldump": ("/usr/bin/mysqldump -phunter2 prod", ["hunter2"]),
    "redis-cli": ("redis-cli -h x -a hunter2 ping", ["hunter2"]),
    "curl user": ("curl -u bob:hunter2 https://x.example", ["hunter2"]),
    "curl user, joined": ("curl -ubob:hunter2 https://x.example", ["hunter2"]),
    "curl --user=": ("curl --user=bob:hunter2 https://x.example", ["hunter2"]),
    "docker login": ("docker login -u bob -p hunter2 registry.example", ["hunter2"]),
    "several": ("env A_TOKEN=abc TOOL_SECRET=def x --password ghi", ["abc", "def", "ghi"]),
    "upper case": ("tool --PASSWORD HUNTER2", ["HUNTER2"]),
}

CLEAN = [
    "ssh -N -R 2222:localhost:22 bob@203.0.113.9",
    "ssh -i /home/bob/.ssh/id_ed25519 bob@host",
    "ssh -o PasswordAuthentication=no -o PubkeyAuthentication=yes host",
    "ssh -o IdentityFile=/k -p 2222 host",
    "scp -P 22 file bob@host:/tmp/",
    "git clone git@github.com:org/repo.git",
    "git clone https://github.com/org/repo.git",
    "git clone ssh://git@github.com:22/org/repo.git",
    "curl http://169.254.169.254/latest/meta-data/iam/security-credentials/",
    "curl https://x.example/@user",
    "curl -u bob https://x.example",
    "mysql -u root -p prod",
    "mysqladmin --protocol=tcp status",
    "python train.py --tokenizer bpe --max-tokens 4096",
    "python train.py --tokens_per_batch=4096",
    "python train.py --keys a,b --key-size 64",
    "python -m passlib",
    "passwd bob",
    "tool --password-file /run/secrets/db",
    "tool --token-file=/run/token",
    "tool --password --verbose",
    "tool --author bob --authors 3",
    "tool --authority=x",
    "grep -r password /etc",
    "grep secret= file",
    "sh -c echo $PASSWORD",
    "sh -c mysql --password=$PW",
    "sh -c curl --token ${TOKEN}",
    "ls /var/lib/secrets /etc/credentials.d",
    "cat token.json api_key.txt",
    "docker run -p 8080:80 nginx",
    "docker login registry.example",
    "rsync -p src dst",
    "xmrig -o stratum+tcp://203.0.113.7:3333 -u wallet -p x",
    "risk-assessment --scope all",
    "task-runner sk-short",
    "desk-lamp-controller-with-a-long-name-indeed",
    "x ghp_short hf_short AKIASHORT",
    "x xAKIAIOSFODNN7EXAMPLEx",
    "keyctl show @s",
    "monkey: see monkey do",
    "keyboard=us",
    "ssh-keygen -t ed25519 -C bob@host",
    "gpg --default-key bob@host --sign x",
    "journalctl --cursor=abc",
    "compass --bypass=1",
    "torchrun --rdzv_endpoint=host:29500 --rdzv_id=job_4711 train.py",
]


def words(text: str) -> bytes:
    """A command line as the kernel has it; quotes group, as in a shell."""
    import shlex

    lexer = shlex.shlex(text, posix=False)
    lexer.whitespace_split = True
    lexer.commenters = ""
    lexer.quotes = "'"
    return "".join(word.strip("'") + "\0" for word in lexer).encode()


@pytest.mark.parametrize(("text", "secrets"), SECRETS.values(), ids=SECRETS.keys())
def test_secret_is_replaced_and_nothing_else(text: str, secrets: list[str]) -> None:
    """The secret is gone; what stood around it is as it was."""
    argv = text.replace(" ", "\0").encode() + b"\0" if "PRIVATE" in text else words(text)
    if "PRIVATE" in text:
        argv = text.encode() + b"\0"
    cleaned = redact.clean(argv)
    expected = argv
    for secret in secrets:
        assert secret.encode() not in cleaned
        expected = expected.replace(secret.encode(), redact.MARK, 1)
    if "PRIVATE" not in text:
        assert cleaned == expected
    assert redact.MARK in cleaned


@pytest.mark.parametrize(("text", "secrets"), SECRETS.values(), ids=SECRETS.keys())
def test_filter_over_the_batch_lets_every_secret_through(text: str, secrets: list[str]) -> None:
    """The cheap look finds the row among others, so that the careful one sees it."""
    argv = text.encode() + b"\0" if "PRIVATE" in text else words(text)
    rows = [b"ls\0-l\0", argv, b"true\0"]
    column = strings.Strings(strings.offsets_of(np.array(list(map(len, rows)))), b"".join(rows))
    assert 1 in redact.candidates(column).tolist()


@pytest.mark.parametrize("text", CLEAN)
def test_near_miss_stays_as_it_is(text: str) -> None:
    """Evidence is not destroyed for looking alike."""
    argv = words(text)
    assert redact.clean(argv) == argv


def test_only_touched_rows_are_rewritten_and_flagged() -> None:
    """Other rows keep their bytes and flags."""
    rows = [words("ls -l"), words("tool --password hunter2"), words("grep password x")]
    column = strings.Strings(strings.offsets_of(np.array(list(map(len, rows)))), b"".join(rows))
    before = np.array([0, schema.EXEC_F_MEMFD, 0], np.uint8)
    after, flags = redact.redact(column, before)
    assert after.row(0) == rows[0]
    assert after.row(1) == b"tool\0--password\0[redacted]\0"
    assert after.row(2) == rows[2]
    assert flags.tolist() == [0, schema.EXEC_F_MEMFD | schema.EXEC_F_REDACTED, 0]
    assert before.tolist() == [0, schema.EXEC_F_MEMFD, 0]


FRAGMENTS = sorted({word for text, _ in SECRETS.values() for word in words(text).split(b"\0")})
PIECES = st.sampled_from(
    [*FRAGMENTS, b"\0", b"=", b":", b" ", b'"', b"PWD", b"dsn", b"sas", b"key", b"accesskey", b"x"]
)


@given(st.lists(PIECES, max_size=8), st.sampled_from([b"", b"\0"]))
def test_whatever_is_replaced_was_let_through(pieces: list[bytes], joint: bytes) -> None:
    """The cheap look is a superset of the careful one."""
    argv = joint.join(pieces) + b"\0"
    column = strings.Strings(np.array([0, len(argv)], np.int32), argv)
    found = redact.candidates(column).tolist()
    if redact.clean(argv) != argv:
        assert found == [0]


@pytest.mark.parametrize("size", [*range(6), *range(32_764, 32_776), 65_537])
def test_a_batch_of_any_size_is_looked_at(size: int) -> None:
    """Also one whose last slice is shorter than a hint, and where a hint crosses two slices."""
    secret = b"\0--token=hunter2\0"
    argv = (b"w" * size)[: max(0, size - 9)] + secret
    for data, expected in ((b"w" * size, []), (argv, [0])):
        column = strings.Strings(np.array([0, len(data)], np.int32), data)
        assert redact.candidates(column).tolist() == expected


def test_an_empty_batch_has_no_candidates() -> None:
    """No bytes, no work."""
    assert redact.candidates(strings.constant("", 3)).tolist() == []


def test_a_secret_does_not_join_two_rows() -> None:
    """The end of one command line and the start of the next are no option and value."""
    rows = [b"tool\0--password\0", b"hunter2\0"]
    column = strings.Strings(strings.offsets_of(np.array(list(map(len, rows)))), b"".join(rows))
    after, flags = redact.redact(column, np.zeros(2, np.uint8))
    assert [after.row(0), after.row(1)] == rows
    assert not flags.any()


@given(st.binary(max_size=200))
def test_cleaning_twice_changes_nothing_more(argv: bytes) -> None:
    """What was replaced is not taken for another secret."""
    once = redact.clean(argv)
    assert redact.clean(once) == once


@pytest.mark.timeout(20)  # a quadratic expression takes minutes
@pytest.mark.parametrize(
    "part",
    [
        *(b"password ", b"a-", b"://a:", b"x_", b"-p\0", b"key:", b"login\0", b"authorization: "),
        *(b"eyJaaaaaaaaa-", b"-----BEGIN ", b"'", b"--a-", b"bearer ", b"\0-u", b"token=", b"sk-"),
    ],
)
def test_hostile_argument_does_not_hold_the_sensor_up(part: bytes) -> None:
    """No expression goes back over 32 KiB of near misses again and again."""
    for program in (b"docker\0", b"mysql\0", b"curl\0", b"x\0"):
        redact.clean(program + part * (32768 // len(part)))
