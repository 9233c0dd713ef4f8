"""Owns the drill's errors; each message says what was tried, what was found and what to do.

DrillError
├── MissingTool    a program the drill needs is not installed
├── NotPermitted   root, a namespace, a device node or a cgroup was refused
├── WorldError     a part of the world could not be made or removed
└── StepFailed     a step did not do what it has to do
"""


class DrillError(Exception):
    """The root of everything the drill raises on purpose."""


class MissingTool(DrillError):
    """A program is missing; the message names its Debian package."""


class NotPermitted(DrillError):
    """The kernel or the caller's rights refused something."""


class WorldError(DrillError):
    """A namespace, cgroup, key, node or helper could not be made or removed."""


class StepFailed(DrillError):
    """A step of the play did not reach its end."""
