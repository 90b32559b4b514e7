"""Memory of a process and of its workers, and whether it grows."""

import multiprocessing
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

PAGE_BYTES = os.sysconf("SC_PAGESIZE")


def resident_bytes() -> int:
    """Resident memory of this process and its workers; pages that they share count once for each of them."""
    pids = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
    return (
        sum(int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1]) for pid in pids)
        * PAGE_BYTES
    )


def growth(figures: Sequence[int]) -> float:
    """The median of the last quarter of the figures less that of the second quarter."""
    quarter = len(figures) // 4
    return np.median(figures[-quarter:]) - np.median(figures[quarter : 2 * quarter])
