"""The drill: a modelled incident, played for real and harmlessly on one host.

Invariant: it imports neither the sensor nor the control plane, and needs the standard library only.
"""

from limes.drill.errors import DrillError, MissingTool, NotPermitted, StepFailed, WorldError
from limes.drill.gpu import SIMULATED, GpuNode
from limes.drill.policy import ExpectedAlert
from limes.drill.steps import Step
from limes.drill.world import DEFAULT_STATE_DIR, DrillWorld

__all__ = [
    "DEFAULT_STATE_DIR",
    "SIMULATED",
    "DrillError",
    "DrillWorld",
    "ExpectedAlert",
    "GpuNode",
    "MissingTool",
    "NotPermitted",
    "Step",
    "StepFailed",
    "WorldError",
]
