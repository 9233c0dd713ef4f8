"""The errors of the harness: each names what was tried, what was found and what to do.

HarnessError
├── ConfigError        machines.toml or an option is wrong
├── HostError          the host lacks a tool, a package list or a privilege
├── BuildError         an image, kernel or wheel could not be made
├── BootError          the guest's agent never reported; the console is in the message
├── GuestTimeoutError  a command or a transfer took longer than it was given
├── GuestRefusedError  the guest refused a request (no such file, cannot start a command)
├── LostGuestError     QEMU or the agent went away in the middle
└── ScenarioError      the scenario ran but its output breaks the contract
"""


class HarnessError(Exception):
    """Root of all errors the harness raises on purpose."""


class ConfigError(HarnessError):
    """machines.toml or an option is wrong."""


class HostError(HarnessError):
    """The host lacks a tool, a package list or a privilege."""


class BuildError(HarnessError):
    """An image, kernel or wheel could not be made."""


class BootError(HarnessError):
    """The guest's agent never reported."""


class GuestTimeoutError(HarnessError):
    """A command or a transfer took longer than it was given."""


class GuestRefusedError(HarnessError):
    """The guest refused a request."""


class LostGuestError(HarnessError):
    """QEMU or the agent went away in the middle."""


class ScenarioError(HarnessError):
    """The scenario ran, but its output breaks the contract."""
