"""Buffers of one batch are there for the next."""

import subprocess
import sys

FAULTS = """
import resource
import zstandard
from limes.sensor import memory
KEEP
columns = [bytes(range(250))] * 600
compressor = zstandard.ZstdCompressor(level=-20)
def batch():
    return len(compressor.compress(b"".join(columns)))
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
    """A hundred batches of 150 kB touch the pages of one; left alone they touch them all."""
    assert faults("memory.keep_freed()") < 500 < faults("")
