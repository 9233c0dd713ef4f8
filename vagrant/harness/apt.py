"""Owns fetching Debian packages; the mirror is the host's, read at run time, never written down."""

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness import host
from harness.errors import BuildError, HostError

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# Overrides what the host's apt says, for hosts that are not Debian.
MIRROR_VARIABLE = "LIMES_DEBIAN_MIRROR"
# How the host reaches its mirror; mmdebstrap would not read these from the host by itself.
_ACQUIRE_OPTIONS = re.compile(r"Acquire::(Check-Valid-Until|Check-Date|Retries|https?::.*) ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """Where the archive and its security part lie (URIs)."""

    archive: str
    security: str

    def sources(self, suites: Sequence[str]) -> str:
        """Return one-line apt sources for the suites."""
        return "".join(
            f"deb [signed-by={KEYRING}] {self._uri(suite)} {suite} main\n" for suite in suites
        )

    def _uri(self, suite: str) -> str:
        return self.security if suite.endswith("-security") else self.archive


def host_mirror() -> Mirror:
    """Return the mirror the host's apt is configured with. Raises HostError when it has none."""
    if uri := os.environ.get(MIRROR_VARIABLE):
        return Mirror(archive=uri, security=f"{uri.rstrip('/')}-security")
    uris = _configured_uris()
    if "Debian" not in uris:
        raise HostError(
            "Asked apt-get indextargets for a Debian mirror and found none with a package list. "
            f"Run apt-get update, or set {MIRROR_VARIABLE}."
        )
    archive = uris["Debian"]
    return Mirror(archive=archive, security=uris.get("Debian-Security", f"{archive}-security"))


def _configured_uris() -> dict[str, str]:
    """Return the first URI of each label among the host's targets that come from Debian."""
    rows = host.run(
        [
            *(host.tool("apt-get"), "indextargets", "Created-By: Packages"),
            *("--format", "$(ORIGIN)\t$(LABEL)\t$(REPO_URI)"),
        ]
    )
    uris: dict[str, str] = {}
    for row in rows.splitlines():
        origin, label, uri = row.split("\t")
        if origin == "Debian":
            uris.setdefault(label, uri.rstrip("/"))
    return uris


def acquire_options() -> list[str]:
    """Return the host's apt settings on how to reach its mirror, as apt.conf lines."""
    dump = host.run(["apt-config", "dump", "Acquire"])
    return [line for line in dump.splitlines() if _ACQUIRE_OPTIONS.match(line)]


class Apt:
    """An apt of its own state beside the host's: the host's package lists stay as they are."""

    def __init__(self, state: Path, suites: Sequence[str]) -> None:
        for folder in ("lists/partial", "cache/archives/partial"):
            (state / folder).mkdir(parents=True)
        (state / "sources.list").write_text(host_mirror().sources(suites))
        self._options = [
            *("-o", f"Dir::State::Lists={state / 'lists'}"),
            *("-o", f"Dir::Cache={state / 'cache'}"),
            *("-o", f"Dir::Etc::SourceList={state / 'sources.list'}"),
            *("-o", "Dir::Etc::SourceParts=/dev/null"),
            *("-o", "Dir::State::status=/dev/null"),
            *("-o", "APT::Architecture=amd64"),
            # The state lies below a directory that user _apt cannot enter.
            *("-o", "APT::Sandbox::User=root"),
        ]
        self._run("apt-get", "update", "--error-on=any")

    def _run(self, program: str, *arguments: str, cwd: Path | None = None) -> str:
        return host.run([host.tool(program), *self._options, *arguments], cwd=cwd)

    def dependency(self, package: str, pattern: str) -> str:
        """Return the newest package that `package` depends on and that matches `pattern`."""
        shown = self._run("apt-cache", "show", "--no-all-versions", package)
        if match := re.search(rf"^Depends:.*?\b({pattern})", shown, re.MULTILINE):
            return match[1]
        raise BuildError(f"{package} depends on nothing like {pattern}. Correct machines.toml.")

    def unpack(self, packages: Sequence[str], into: Path) -> None:
        """Download the packages and unpack them below `into`; nothing is installed."""
        with tempfile.TemporaryDirectory(prefix="limes-deb-") as folder:
            self._run("apt-get", "download", "-q", *packages, cwd=Path(folder))
            for archive in sorted(Path(folder).glob("*.deb")):
                host.run([host.tool("dpkg-deb"), "-x", archive, into])


@contextmanager
def apt_for(suites: Sequence[str]) -> Iterator[Apt]:
    """Give an Apt for the suites. Raises BuildError when the mirror lacks one of them."""
    if not KEYRING.exists():
        raise HostError(f"{KEYRING} is missing. Run: apt-get install debian-archive-keyring")
    with tempfile.TemporaryDirectory(prefix="limes-apt-") as folder:
        yield Apt(Path(folder), suites)
