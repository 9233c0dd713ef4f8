"""Owns the drill's keys, accounts and the two sshd of the outside world.

Invariant: keys are made for one drill, lie in its 0700 directory, and open nothing but a port
forward or one repository, in a namespace that only the drill reaches.
"""

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

from limes.drill.errors import WorldError
from limes.drill.plan import DrillPlan, Endpoint
from limes.drill.processes import Actor, Company, Place, listening, wait_until
from limes.drill.tools import Tools

_SERVER = """\
ListenAddress {address}
Port {port}
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/authorized_keys
PidFile none
UsePAM no
UseDNS no
# The directory is 0700 and root's; what lies above it (a test's /tmp) is not sshd's business here.
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
AllowTcpForwarding {forwarding}
X11Forwarding no
PrintMotd no
LogLevel VERBOSE
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """What a client needs: user, endpoint, key file and known_hosts file."""

    user: str
    end: Endpoint
    key: Path
    known_hosts: Path


def write_accounts(directory: Path, users: list[str]) -> None:
    """Write the passwd and shadow files that only the drill's sshd see."""
    directory.mkdir(mode=0o755)
    try:
        privilege_separation = pwd.getpwnam("sshd").pw_uid
    except KeyError:
        privilege_separation = 65533
    passwd = [
        "root:x:0:0:root:/root:/bin/sh",
        f"sshd:x:{privilege_separation}:65534::/run/sshd:/usr/sbin/nologin",
        *(f"{user}:x:0:0::{directory}:/bin/sh" for user in users),
    ]
    shadow = [f"{name}:*:19000:0:99999:7:::" for name in ("root", "sshd", *users)]
    (directory / "passwd").write_text("\n".join(passwd) + "\n")
    (directory / "shadow").write_text("\n".join(shadow) + "\n")


def prepare_relay(directory: Path, tools: Tools, plan: DrillPlan) -> Login:
    """Write keys and configuration of the sshd that takes remote forwards; return the login."""
    listen = ",".join(f'permitlisten="localhost:{port}"' for port in plan.forwarded_ports)
    return _prepare(
        directory,
        tools,
        plan.relay,
        user=plan.relay_user,
        options=f'restrict,port-forwarding,{listen},command="/bin/false"',
        forwarding="remote",
    )


def prepare_forge(directory: Path, tools: Tools, plan: DrillPlan, repository: Path) -> Login:
    """Write keys and configuration of the sshd that serves one repository; return the login."""
    return _prepare(
        directory,
        tools,
        plan.forge,
        user="git",
        options=f'restrict,command="{tools.git} upload-pack {repository}"',
        forwarding="no",
    )


def serve(
    name: str, directory: Path, login: Login, *, company: Company, place: Place, tools: Tools
) -> Actor:
    """Start an sshd and return it once it listens."""
    argv = [str(tools.sshd), "-D", "-e", "-f", str(directory / "sshd_config")]
    actor = company.start(name, argv, place)

    def ready() -> bool:
        if not actor.running():
            raise actor.failure("it ended at once")
        return listening(actor.pid, login.end.address, login.end.port)

    wait_until(ready, f"{name} to listen on {login.end}")
    return actor


def make_repository(path: Path, tools: Tools, project: str) -> None:
    """Make a bare repository with one commit."""
    text = f"# {project}\n"
    message = "Start\n"
    stream = (
        "commit refs/heads/main\n"
        "committer Drill <drill@example.org> 1700000000 +0000\n"
        f"data {len(message)}\n{message}"
        f"M 100644 inline README.md\ndata {len(text)}\n{text}\n"
    )
    _run([str(tools.git), "init", "-q", "--bare", "--initial-branch=main", str(path)])
    _run([str(tools.git), "-C", str(path), "fast-import", "--quiet"], stream)


def git_environment() -> dict[str, str]:
    """Return settings that keep the host's git configuration out."""
    return {
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
    }


def _prepare(
    directory: Path, tools: Tools, end: Endpoint, *, user: str, options: str, forwarding: str
) -> Login:
    directory.mkdir(mode=0o700)
    for name in ("host_key", "client_key"):
        _run([str(tools.ssh_keygen), *("-q", "-t", "ed25519", "-N", "", "-C", ""),
              *("-f", str(directory / name))])  # fmt: skip
    client = (directory / "client_key.pub").read_text().strip()
    (directory / "authorized_keys").write_text(f"{options} {client}\n")
    host = end.address if end.port == 22 else f"[{end.address}]:{end.port}"
    server = (directory / "host_key.pub").read_text().strip()
    (directory / "known_hosts").write_text(f"{host} {server}\n")
    (directory / "sshd_config").write_text(
        _SERVER.format(
            address=end.address, port=end.port, directory=directory, forwarding=forwarding
        )
    )
    return Login(
        user=user, end=end, key=directory / "client_key", known_hosts=directory / "known_hosts"
    )


def _run(argv: list[str], text: str | None = None) -> None:
    result = subprocess.run(
        argv,
        input=text,
        stdin=None if text is not None else subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **git_environment()},
    )
    if result.returncode:
        said = (result.stderr.strip() or "nothing said").splitlines()[-1]
        raise WorldError(f"Ran {' '.join(argv[:3])}: exit status {result.returncode}: {said}")
