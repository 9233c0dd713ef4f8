"""How glibc keeps memory that was freed; elsewhere (musl) nothing happens.

Invariant: nothing here changes what the program computes.
"""

import contextlib
import ctypes
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_LARGEST: Final = 8 << 20


def keep_freed() -> None:
    """Keeps the buffers of a batch for the next one.

    By default each buffer of 128 KiB and more is a mapping of its own: its pages are faulted in
    again for every batch, which took longer than compressing it.
    """
    with contextlib.suppress(AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, _LARGEST)
        library.mallopt(_M_TRIM_THRESHOLD, 2 * _LARGEST)


def give_back() -> None:
    """Returns what is free now to the kernel: after a start that needed more than the run will."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
