"""The number of cores that this process may use: the default number of threads and worker processes."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

from data_pipeline.common import control_groups


def usable_cores(root: Path = Path("/")) -> int:
    """Number of cores, without those that `taskset`, a batch system or a container reserves for others.

    A container may also have a share of the time of all cores, as with ``docker --cpus=2.5``: three then.

    Args:
        root: where `/proc` and `/sys` are.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return min([cores, *(max(math.ceil(share), 1) for share in _shares(root))])


def _shares(root: Path) -> Iterator[float]:
    """Yields the limits of this process's control groups to its time on all cores, as numbers of cores."""
    for group in control_groups.directories("cpu", root):
        # Microseconds of all cores together in each period, and its length; in version 1 they are two files.
        times = control_groups.numbers(group / "cpu.max") or [
            *control_groups.numbers(group / "cpu.cfs_quota_us"),
            *control_groups.numbers(group / "cpu.cfs_period_us"),
        ]
        if len(times) == 2 and min(times) > 0:  # -1 is no limit
            yield times[0] / times[1]
