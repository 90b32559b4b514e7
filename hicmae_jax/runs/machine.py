"""What this machine allows a process: memory, and processes with their threads.

A container or a cluster sets limits by control groups, which count beside those of the machine and the user.
"""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import jax

from data_pipeline.common import control_groups

_UNLIMITED = 1 << 60
"""Version 1 of the control groups writes a number above this one for no limit."""


def memory_bytes(root: Path = Path("/")) -> int:
    """Memory that this process may use, in bytes: the machine's, or less in a container.

    Args:
        root: where `/proc` and `/sys` are.
    """
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = _limits(root, "memory", ("memory.max", "memory.limit_in_bytes"))
    return min([installed, *limits])


def tasks(root: Path = Path("/")) -> int | None:
    """Processes and threads that this user may run at a time; None if nothing limits them.

    Args:
        root: where `/proc` and `/sys` are.
    """
    limits = list(_limits(root, "pids", ("pids.max",)))
    limits += control_groups.numbers(root / "proc/sys/kernel/threads-max")
    if os.geteuid():  # the limit of a user does not hold for root
        limits.append(resource.getrlimit(resource.RLIMIT_NPROC)[0])
    return min((limit for limit in limits if 0 < limit < _UNLIMITED), default=None)


def device_bytes() -> int | None:
    """Memory of each accelerator of this process, in bytes; None if it is not known, or is the host's."""
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return None
    return (device.memory_stats() or {}).get("bytes_limit")


def _limits(root: Path, controller: str, files: tuple[str, ...]) -> Iterator[int]:
    """Yields the limits of this process's control groups that files of these names hold."""
    for group in control_groups.directories(controller, root):
        for name in files:
            yield from control_groups.numbers(group / name)
