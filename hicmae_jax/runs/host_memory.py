"""Keeps freed memory in the process, so that a step on CPUs finds the pages of the step before.

XLA for CPUs allocates the temporary arrays of a step at once, hundreds of megabytes, and frees them after the
step. By default, glibc returns so large a block to the system. Each step would then wait for the system to
find and clear every page again, which can take as long as a third of the step.
"""

import ctypes
import importlib.metadata
import importlib.util

# Parameters of glibc's `mallopt`, from `malloc.h`.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> bool:
    """Make glibc keep all memory that is freed, for all threads together.

    Call it before JAX makes its threads: a thread keeps the part of the heap with which it begins, and glibc
    takes large blocks from the system unless they are of the first part. The process then stays as large as
    it was at its peak.

    Returns:
        Whether the settings were made; other C libraries than glibc do not have them.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all([mallopt(_ARENA_MAX, 1), mallopt(_MMAP_MAX, 0), mallopt(_TRIM_THRESHOLD, -1)])


def computes_on_cpus(platforms: str | None) -> bool:
    """Whether JAX will compute on CPUs, as far as one can tell before it looks for devices.

    Args:
        platforms: JAX's setting `jax_platforms`; None or empty lets JAX choose.
    """
    if platforms:
        return platforms == "cpu"
    plugins = importlib.metadata.entry_points(group="jax_plugins")
    return not plugins and importlib.util.find_spec("libtpu") is None
