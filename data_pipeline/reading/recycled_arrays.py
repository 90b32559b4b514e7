"""Large arrays whose memory is used again when no view of them is left.

For a new batch of some hundred megabytes the kernel would have to map and clear every page, because malloc
returns blocks of that size to the kernel as soon as they are free.
"""

import collections
import math
import mmap
import weakref

import numpy as np


class RecycledArrays:
    """Gives out uninitialised arrays, and takes their memory back when the last view of one is gone.

    Holds as much memory as was in use at one time. Safe to use from several threads.
    """

    def __init__(self) -> None:
        # A deque, not a lock: a finaliser may interrupt the thread that is using it.
        self._free: dict[int, collections.deque[mmap.mmap]] = {}

    def empty(self, shape: tuple[int, ...], dtype: np.typing.DTypeLike) -> np.ndarray:
        """Returns an array with arbitrary contents, as `np.empty` does."""
        size = max(math.prod(shape) * np.dtype(dtype).itemsize, mmap.PAGESIZE)
        free = self._free.setdefault(size, collections.deque())
        try:
            memory = free.pop()
        except IndexError:
            memory = mmap.mmap(-1, size)
            if hasattr(mmap, "MADV_HUGEPAGE"):
                memory.madvise(mmap.MADV_HUGEPAGE)
        # Every view keeps `flat` alive: NumPy shortens a chain of views only as far as the array that took
        # the memory from another object.
        flat = np.frombuffer(memory, dtype, math.prod(shape))
        weakref.finalize(flat, free.append, memory).atexit = False
        return flat.reshape(shape)
