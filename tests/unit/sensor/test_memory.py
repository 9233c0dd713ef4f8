"""Buffers of one batch are there for the next."""

import subprocess
import sys

FAULTS = """
import resource
from limes.sensor import memory
KEEP
def batch():
    return len(bytearray(b"x") * (1 << 20))
batch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    batch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
memory.give_back()
"""


def faults(keep: str) -> int:
    code = FAULTS.replace("KEEP", keep)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return int(done.stdout)


def test_a_batchs_buffers_are_not_faulted_in_again() -> None:
    """A hundred buffers of 1 MiB touch their 256 pages once."""
    assert faults("memory.keep_freed()") < 1000
