"""Secrets in command lines, replaced before anything leaves the host.

Invariant: a row is rewritten only when a secret was found in it, and is then flagged. What a secret
looks like is decided by shape alone; a secret given as a bare word cannot be recognised.
"""

import re
from typing import Final

import numpy as np
import numpy.typing as npt
from limes.sensor import strings
from limes.v1 import schema

MARK: Final = b"[redacted]"

# Rows worth a closer look hold one of these (any case); a dot matches any byte. All are found at
# once by four table look-ups per byte over the whole batch, so a batch without any costs no more.
_HINTS: Final = (
    *("pass", "pwd=", "pwd:", "toke", "secr", "cred", "auth", "bear", "apik", "cook"),
    *("key=", "key:", "key\0", "key ", "-key", "_key", "ghp_", "gho_", "ghs_", "ghu_", "gith"),
    *("glpa", "hf_.", "sk-.", "akia", "asia", "xox.", "eyj.", "begi", "sig=", "aiza"),
    *("mysq", "mari", "redi", "curl", "wget", "logi", "dsn=", "npm_", "sas."),
)
_BUCKETS: Final = 8
_WINDOW: Final = 4
_AT: Final = ord("@")


def _tables() -> tuple[bytes, ...]:
    """For each position in the window, the set of buckets (bits) that a byte may belong to."""
    tables = [bytearray(256) for _ in range(_WINDOW)]
    for number, hint in enumerate(sorted(_HINTS)):
        bit = 1 << (number * _BUCKETS // len(_HINTS))
        for table, letter in zip(tables, hint, strict=True):
            values = range(256) if letter == "." else map(ord, {letter.lower(), letter.upper()})
            for value in values:
                table[value] |= bit
    return tuple(bytes(table) for table in tables)


_TABLES: Final = _tables()

_VALUE: Final = rb"[^\0]+"
_WORD: Final = rb"[^\s\0'\"]+"
_NAME: Final = (
    rb"(?:pass(?:word|wd|phrase|code)?|pwd|secret|token|credentials?|api[-_]?key|apikey|"
    rb"(?:access|secret|private|account|auth|encryption|signing|license|ssh|master)[-_]?key|"
    rb"auth|cookie|dsn|sas)"
)
_TOKENS: Final = (
    rb"()(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|"
    rb"glpat-[A-Za-z0-9_-]{16,}|hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|"
    rb"npm_[A-Za-z0-9]{30,}|xox[abeoprs]-[A-Za-z0-9-]{10,}|AIza[A-Za-z0-9_-]{30,}|"
    rb"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*)"
)
_PATTERNS: Final = (
    # Private keys given in line.
    (rb"(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", rb"\1"),
    # --password=x, PGPASSWORD=x, env API_KEY=x, -Dtoken=x, {"password": "x"}, ?access_token=x&
    (
        rb"(?i)((?<![a-z])[a-z0-9_.-]*" + _NAME + rb"(?:_?\d+)?['\"]?\s?[=:]\s?['\"]?)"
        rb"(?![=/\s\0'\"]|\$\{?[a-z_])[^\s\0'\"&;,]+",
        rb"\1",
    ),
    # --password x (the next argument), but not --password --next-option.
    (
        rb"(?i)((?:\A|\0)--?(?:[a-z0-9]+[-_])*" + _NAME + rb"\0)(?!-)" + _VALUE,
        rb"\1",
    ),
    # Credentials in URLs: scheme://user:secret@host
    (rb"(?i)([a-z][a-z0-9+.-]*://[^\s\0/:@]*:)[^\s\0@/]+(?=@)", rb"\1"),
    # Authorization: Bearer x / Basic x / token x
    (
        rb"(?i)(\bauthorization\s*[:=]\s*(?:(?:bearer|basic|token|digest|apikey)\s+)?)" + _WORD,
        rb"\1",
    ),
    (rb"(?i)(\bbearer[ \0])" + _WORD, rb"\1"),
    # Any header that names a key or a token: X-Api-Key: x
    (rb"(?i)((?:\A|\0|['\"])(?:x-)?[a-z-]*(?:key|token|cookie|secret)\s*:\s*)" + _WORD, rb"\1"),
    # Well-known token shapes, wherever they stand.
    (_TOKENS, rb"\1"),
    # AWS access key ids: not secret alone, but they name the account of the secret beside them.
    (rb"()(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])", rb"\1"),
)
# Programs whose short option carries a secret: first argument, then the option's form.
_PROGRAMS: Final = (
    # sshpass -p x, sshpass -px
    (rb"sshpass", rb"(\0-p\0?)" + _VALUE, 1),
    # mysql -px; a lone -p asks for the password.
    (rb"mysql\w*|mariadb[\w-]*", rb"(\0-p)" + _VALUE, 0),
    (rb"redis-cli", rb"(\0-a\0)" + _VALUE, 0),
    # curl -u user:x, --user user:x, --proxy-user
    (rb"curl", rb"(\0(?:-u\0?|--user[\0=]|-U\0?|--proxy-user[\0=])[^\s\0:]+:)" + _VALUE, 0),
    # docker|podman|helm|az|oc login -p x
    (
        rb"docker|podman|skopeo|buildah|helm|nerdctl|az|oc|crictl",
        rb"(\0login\0(?:[^\0]*\0)*?-p\0?)" + _VALUE,
        1,
    ),
)
_RULES: Final = tuple((re.compile(p, re.DOTALL), r + MARK) for p, r in _PATTERNS)
_BY_PROGRAM: Final = tuple(
    (
        re.compile(rb"(?:[^\0]*/)?(?:" + name + rb")\0", re.DOTALL),
        re.compile(form, re.DOTALL),
        count,
    )
    for name, form, count in _PROGRAMS
)
# A wrapper in front of the program that has the short option.
_WRAPPED: Final = re.compile(rb"(?:[^\0]*/)?(?:sudo|env|nice|nohup|timeout|setsid|stdbuf)\0")


def candidates(args: strings.Strings) -> npt.NDArray[np.intp]:
    """Rows that may hold a secret: a superset, found over the whole buffer at once."""
    data = args.data
    if len(data) < _WINDOW:
        return np.empty(0, np.intp)
    planes = [np.frombuffer(data.translate(table), np.uint8) for table in _TABLES]
    size = len(data) - _WINDOW + 1
    hits = planes[0][:size] & planes[1][1 : size + 1]
    hits &= planes[2][2 : size + 2]
    hits &= planes[3][3:]
    at = np.flatnonzero(hits)
    if b"@" in data:
        at = np.concatenate((at, np.flatnonzero(np.frombuffer(data, np.uint8) == _AT)))
    if not len(at):
        return at
    return np.unique(np.searchsorted(args.offsets, at, side="right") - 1)


def clean(argv: bytes) -> bytes:
    """One command line (arguments separated by NUL) with its secrets replaced."""
    for rule, replacement in _RULES:
        argv = rule.sub(replacement, argv)
    start = 0
    while found := _WRAPPED.match(argv, start):
        start = found.end()
    for program, form, count in _BY_PROGRAM:
        if program.match(argv, start):
            head = argv[:start]
            argv = head + form.sub(rb"\1" + MARK, argv[start:], count=count)
    return argv


def redact(
    args: strings.Strings, flags: npt.NDArray[np.uint8]
) -> tuple[strings.Strings, npt.NDArray[np.uint8]]:
    """The column with secrets replaced, and the flags with EXEC_F_REDACTED on those rows."""
    changed, values = [], []
    for row in candidates(args).tolist():
        old = args.row(row)
        new = clean(old)
        if new != old:
            changed.append(row)
            values.append(new)
    if not changed:
        return args, flags
    flags = flags.copy()
    flags[changed] |= np.uint8(schema.EXEC_F_REDACTED)
    return args.replace(changed, values), flags
