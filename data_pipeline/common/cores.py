"""The number of cores that this process may use: the default number of threads and worker processes."""

import os


def usable_cores() -> int:
    """Number of cores, without those that `taskset`, a batch system or a container reserves for others."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
