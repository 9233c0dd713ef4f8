"""Owns the cache: an entry is named by the hash of its inputs and appears only when whole."""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

# Older entries of a kind are what a branch switch goes back to; more would only fill the disk.
KEPT_PER_KIND = 2
_KEY_DIGITS = 16


def cache_dir() -> Path:
    """Return the cache directory: LIMES_CACHE, by default ~/.cache/limes."""
    return Path(os.environ.get("LIMES_CACHE") or "~/.cache/limes").expanduser() / "vm"


def content_key(inputs: Mapping[str, object]) -> str:
    """Return hexadecimal digits that change whenever an input does."""
    text = json.dumps(inputs, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY_DIGITS]


def file_hash(*paths: Path) -> str:
    """Return the hash of the files' contents; builders name their own source as an input."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def entry(kind: str, inputs: Mapping[str, object], build: Callable[[Path], None]) -> Path:
    """Return the entry's directory; when it is absent `build` fills it first.

    Two processes that want the same entry build it once. Raises what `build` raises.
    """
    key = content_key(inputs)
    path = cache_dir() / f"{kind}-{key}"
    if path.exists():
        os.utime(path)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with _lock(path.parent / f".{kind}.lock"):
        if not path.exists():
            _fill(path, build)
            _prune(kind)
    return path


def _fill(path: Path, build: Callable[[Path], None]) -> None:
    prefix = f".draft-{path.name}-"
    # Left by a build that was killed; the lock says that nobody is at work on them.
    for stale in path.parent.glob(f"{prefix}*"):
        shutil.rmtree(stale)
    draft = Path(tempfile.mkdtemp(prefix=prefix, dir=path.parent))
    try:
        draft.chmod(0o755)
        build(draft)
        # An unpacked package gives the directory its own, old time; the newest are kept.
        os.utime(draft)
        draft.rename(path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _prune(kind: str) -> None:
    # The whole key is matched: one kind's name may begin another's.
    pattern = f"{kind}-{'[0-9a-f]' * _KEY_DIGITS}"
    entries = sorted(cache_dir().glob(pattern), key=lambda path: path.stat().st_mtime)
    for path in entries[:-KEPT_PER_KIND]:
        # A running QEMU keeps its images open; unlinking does not disturb it.
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
