"""Tells whether the process that left a file behind is still alive, where that is certain.

A process is named by its machine since the last start, its space of process numbers (each container has its
own), its number and its time of start. Another process can only judge one of the same machine and space.
"""

import os
import time
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")


def identity(process: int | None = None) -> str:
    """The name of a process of this machine; empty where the system does not tell.

    Args:
        process: its number; None for this process.

    Raises:
        ProcessLookupError: there is no such process.
    """
    number = os.getpid() if process is None else process
    try:
        space = f"{_BOOT.read_text(encoding='ascii').strip()}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""
    try:
        return f"{space}/{number}/{_start(number)}"
    except FileNotFoundError:
        raise ProcessLookupError(number) from None


def age() -> float:
    """Seconds since this process began; 0 where the system does not tell."""
    try:
        begun = int(_start(os.getpid())) / os.sysconf("SC_CLK_TCK")
        return max(time.clock_gettime(time.CLOCK_BOOTTIME) - begun, 0.0)
    except (OSError, AttributeError):
        return 0.0


def is_alive(named: str) -> bool | None:
    """Whether a process is alive; None if it ran on another machine or in another container.

    Args:
        named: from `identity`, called by that process.
    """
    parts = named.split("/")
    mine = identity().split("/")
    if len(parts) != 4 or parts[:2] != mine[:2] or not parts[2].isdecimal():
        return None
    try:
        return identity(int(parts[2])) == named
    except ProcessLookupError:
        return False


def _start(process: int) -> str:
    """When a process began, in ticks of the system since its own start."""
    # The name of the program, in brackets, may hold spaces; the start is the 20th field after it.
    return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
