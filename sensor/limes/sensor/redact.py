"""Secrets in command lines, replaced before anything leaves the host.

Invariant: a row is rewritten only when a secret was found in it, and is then flagged. What a secret
looks like is decided by shape alone; a secret given as a bare word cannot be recognised.
"""

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from limes.sensor import strings
from limes.v1 import schema

MARK: Final = b"[redacted]"

# Rows worth a closer look hold one of these (any case); a dot matches any byte.
_HINTS: Final = (
    *("pass", "pwd.", "toke", "secr", "cred", "auth", "bear", "cook", "key.", "dsn.", "sas."),
    *("ghp_", "gho_", "ghs_", "ghu_", "ghr_", "gith", "glpa", "hf_.", "sk-.", "npm_", "xox."),
    *("akia", "asia", "aiza", "eyj.", "begi", "mysq", "mari", "redi", "curl", "logi"),
)
_WINDOW: Final = 4
_SLICE: Final = 1 << 15
_AT: Final = ord("@")


def _values(letter: str) -> list[int]:
    return list(range(256)) if letter == "." else [ord(letter.lower()), ord(letter.upper())]


def _classes() -> npt.NDArray[np.uint8]:
    """What each two bytes, read as a little-endian number, may be of a hint.

    Bits 0 and 1: its first two letters, 2 and 3: its last two, 4 and 5: a byte and its first, 6 and
    7: its middle two. The lower bit of each is for hints of four letters, the other for three.
    """
    table = np.zeros((256, 256), np.uint8)
    for hint in _HINTS:
        bit = 1 if hint.endswith(".") else 0
        letters = [_values(letter) for letter in hint]
        for place, pair in (
            (0, letters[0:2]),
            (2, letters[2:4]),
            (4, [_values("."), letters[0]]),
            (6, letters[1:3]),
        ):
            table[np.ix_(pair[1], pair[0])] |= np.uint8(1 << place + bit)
    return table.ravel()


_CLASSES: Final = _classes()
_EITHER: Final = np.uint8(3)
_LAST, _LETTER, _MIDDLE = np.uint8(2), np.uint8(4), np.uint8(6)
# What passes the classes is compared with the hints themselves, in lower case: one bit of a letter.
_LOWER: Final = np.uint32(0x20202020)
_THREE_BYTES: Final = np.uint32(0xFFFFFF)
_SPACE: Final = np.uint32(ord(" ") << 24)


def _words(hints: Sequence[str]) -> npt.NDArray[np.uint32]:
    words = np.array([int.from_bytes(hint.encode(), "little") for hint in hints], np.uint32)
    return np.sort(words | _LOWER)


def _among(words: npt.NDArray[np.uint32], some: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
    """Which words are among some sorted ones; numpy's isin would sort all of them."""
    found: npt.NDArray[np.bool_] = some.take(np.searchsorted(some, words), mode="clip") == words
    return found


_FOURS: Final = _words([hint for hint in _HINTS if hint[3] != "."])
_THREES: Final = _words([hint[:3] + " " for hint in _HINTS if hint[3] == "."])

# Every expression below takes time linear in the argument's length, whatever it holds: what comes
# before a literal is bounded, or begins where an earlier attempt cannot have begun.
_VALUE: Final = rb"[^\0]+"
_WORD: Final = rb"[^\s\0'\"]+"
# A shell variable names a secret without being one.
_NO_VALUE: Final = rb"(?!\[redacted\]|\$\{?[a-z_])"
_NAME: Final = (
    rb"(?:password|passwd|passphrase|secret|token|credentials?|api[-_]?key|"
    rb"(?:access|secret|private|account|auth|encryption|signing|license|ssh|master)[-_]?key|"
    rb"(?<![a-z])(?:pass|passcode|pwd|auth|cookie|dsn|sas))(?:_?\d{1,4})?"
)
_TOKENS: Final = (
    rb"()(?<![A-Za-z0-9_-])(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|"
    rb"glpat-[A-Za-z0-9_-]{16,}|hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|"
    rb"npm_[A-Za-z0-9]{30,}|xox[abeoprs]-[A-Za-z0-9-]{10,}|AIza[A-Za-z0-9_-]{30,}|"
    rb"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*)"
)
_PATTERNS: Final = (
    # Private keys given in line.
    rb"(-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----).*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)",
    # Credentials in URLs: scheme://user:secret@host
    rb"(://[^\s\0/:@]*:)" + _NO_VALUE + rb"[^\s\0@/]+(?=@)",
    # Authorization: Bearer x / Basic x / token x
    rb"(?i)(\bauthorization\s{0,4}[:=]\s{0,4}(?:(?:bearer|basic|token|digest|apikey)\s{1,4})?)"
    + _NO_VALUE
    + _WORD,
    rb"(?i)(\bbearer[ \0])" + _NO_VALUE + _WORD,
    # Any header that names a key or a token: X-Api-Key: x
    rb"(?i)((?:\A|\0|['\"])[a-z-]{0,40}(?:key|token|cookie|secret)\s{0,4}:\s{1,4})"
    + _NO_VALUE
    + _WORD,
    # --password=x, PGPASSWORD=x, env API_KEY=x, -Dtoken=x, {"password": "x"}, ?access_token=x&
    rb"(?i)(" + _NAME + rb"['\"]?\s?[=:]\s?['\"]?)" + _NO_VALUE + rb"(?![=/])[^\s\0'\"&;,]+",
    # --password x (the next argument), but not --password --next-option.
    rb"(?i)((?:\A|\0)--?(?:[a-z0-9]+[-_])*" + _NAME + rb"\0)(?!-)" + _NO_VALUE + _VALUE,
    # Well-known token shapes, wherever they stand.
    _TOKENS,
    # AWS access key ids: not secret alone, but they name the account of the secret beside them.
    rb"()(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])",
)
# Programs whose short option carries a secret: name, the option's form, how often it may occur.
_PROGRAMS: Final = (
    # sshpass -p x, sshpass -px
    (rb"sshpass", rb"(\0-p\0?)" + _NO_VALUE + _VALUE, 1),
    # mysql -px; a lone -p asks for the password.
    (rb"mysql\w{0,20}|mariadb[\w-]{0,20}", rb"(\0-p)" + _NO_VALUE + _VALUE, 0),
    (rb"redis-cli", rb"(\0-a\0)" + _NO_VALUE + _VALUE, 0),
    # curl -u user:x, --user user:x, --proxy-user
    (
        rb"curl",
        rb"(\0(?:-u\0?|--user[\0=]|-U\0?|--proxy-user[\0=])[^\s\0:]+:)" + _NO_VALUE + _VALUE,
        0,
    ),
    # docker|podman|helm|az|oc login -p x
    (
        rb"docker|podman|skopeo|buildah|helm|nerdctl|az|oc|crictl",
        rb"(\0login\0(?:[^\0]*\0){0,16}?-p\0?)" + _NO_VALUE + _VALUE,
        1,
    ),
)
_RULES: Final = tuple(re.compile(pattern, re.DOTALL) for pattern in _PATTERNS)
_REPLACEMENT: Final = rb"\1" + MARK
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
    found = [_hits(data, start) for start in range(0, len(data), _SLICE)]
    if b"@" in data:
        found.append(np.flatnonzero(np.frombuffer(data, np.uint8) == _AT))
    at = np.concatenate([np.empty(0, np.intp), *found])
    if not len(at):
        return at
    return np.unique(np.searchsorted(args.offsets, at, side="right") - 1)


def _hits(data: bytes, start: int) -> npt.NDArray[np.intp]:
    """Where hints begin in one slice of the buffer: slices fit the processor's cache.

    One table look-up per two bytes. A hint that begins at an even place has its first and its last
    two letters together there; any other its middle two, and its first letter before them.
    """
    part = data[start : start + _SLICE + _WINDOW]
    if len(part) < _WINDOW:  # too short for any; most of it was in the slice before
        return np.empty(0, np.intp)
    found = _CLASSES.take(np.frombuffer(part, "<u2", len(part) // 2), mode="wrap")
    here, after = found[:-1], found[1:]
    even = here & (after >> _LAST) & _EITHER
    odd = (here >> _LETTER) & (after >> _MIDDLE) & _EITHER
    at = np.flatnonzero((even | odd) != 0)
    at = np.concatenate((2 * at[even[at] != 0], 2 * at[odd[at] != 0] + 1))
    at = at[at <= len(part) - _WINDOW]
    words = np.ndarray((len(part) - _WINDOW + 1,), "<u4", part, strides=(1,))[at] | _LOWER
    return at[_among(words, _FOURS) | _among(words & _THREE_BYTES | _SPACE, _THREES)] + start


def clean(argv: bytes) -> bytes:
    """One command line (arguments separated by NUL) with its secrets replaced."""
    for rule in _RULES:
        argv = rule.sub(_REPLACEMENT, argv)
    start = 0
    while found := _WRAPPED.match(argv, start):
        start = found.end()
    for program, form, count in _BY_PROGRAM:
        if program.match(argv, start):
            head = argv[:start]
            argv = head + form.sub(_REPLACEMENT, argv[start:], count=count)
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
