"""Errors of the sensor, by what the operator must do.

SensorError
├── ConfigError        mend the configuration
├── PrivilegeError     run as root, or grant the capabilities named
├── KernelUnsupported  use another plan, loader or kernel
├── AbiMismatch        rebuild the BPF object or the package
├── SpoolError         make room, or repair the spool directory
└── TransportError     check the control plane's address and the certificates
"""


class SensorError(Exception):
    """Root of the sensor's errors: the message says what was tried, what was found, what to do."""


class ConfigError(SensorError):
    """A key of the configuration is missing, unknown or in conflict."""


class PrivilegeError(SensorError):
    """The process may not do what the sensor needs."""


class KernelUnsupported(SensorError):
    """The running kernel lacks or refuses what was asked for."""


class AbiMismatch(SensorError):
    """The BPF object and the package were built from different event registries."""


class SpoolError(SensorError):
    """The spool directory cannot be used."""


class TransportError(SensorError):
    """The control plane cannot be reached or refuses this sensor."""
