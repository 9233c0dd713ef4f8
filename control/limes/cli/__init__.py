"""The command `limes`: the one place that may import the sensor, the control plane and the drill.

Invariant: data goes to standard output, everything else to standard error; a command loads only the
side it needs, and loads it when it runs.
"""
