"""Names the recording that comes along: a drill on Debian 12, its GPU a simulated device.

Invariant: it was made by a real kernel; vagrant/scenarios/training_host/record.sh makes it anew.
"""

from pathlib import Path
from typing import Final

from limes import cli

HOST: Final = "replay"
_FOLDER: Final = Path(cli.__file__).parent.parent / "packs" / "recordings"
RECORDING: Final = _FOLDER / "drill.limesrec"
POLICY: Final = _FOLDER / "drill-policy.toml"
