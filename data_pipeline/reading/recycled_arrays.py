"""Large arrays whose memory is used again once nobody looks at them.

A fresh batch of some hundred megabytes costs the kernel a fault and a zeroing of every page, and malloc gives
memory of that size back at every chance.
"""

import collections
import math
import mmap
import weakref

import numpy as np


class RecycledArrays:
    """Gives out uninitialised arrays; takes their memory back when the last view of one is gone.

    Holds as much memory as was in use at once. Safe to use from several threads.
    """

    def __init__(self) -> None:
        # A deque, unlike a lock, may be used in a finaliser that interrupts the same thread.
        self._free: dict[int, collections.deque[mmap.mmap]] = {}

    def empty(self, shape: tuple[int, ...], dtype: np.typing.DTypeLike) -> np.ndarray:
        """An array like `np.empty`'s, whose contents are arbitrary."""
        size = max(math.prod(shape) * np.dtype(dtype).itemsize, mmap.PAGESIZE)
        free = self._free.setdefault(size, collections.deque())
        try:
            memory = free.pop()
        except IndexError:
            memory = mmap.mmap(-1, size)
            if hasattr(mmap, "MADV_HUGEPAGE"):
                memory.madvise(mmap.MADV_HUGEPAGE)
        # Views of `flat` keep `flat` alive, not only `memory`: NumPy shortens chains of views no further
        # than to the array that took the memory from another object.
        flat = np.frombuffer(memory, dtype, math.prod(shape))
        weakref.finalize(flat, free.append, memory).atexit = False
        return flat.reshape(shape)
