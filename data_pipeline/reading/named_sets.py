"""Short names of prepared sets, and the set that a clip comes from."""

import collections
import dataclasses
import os
from collections.abc import Sequence
from pathlib import PurePath

import numpy as np


@dataclasses.dataclass(frozen=True)
class NamedSets:
    """The sets of a source.

    Attributes:
        names: one of each set; no two are the same.
        first_examples: example id of the first clip of each set, ascending.
    """

    names: tuple[str, ...]
    first_examples: tuple[int, ...]

    def numbers(self, examples: np.ndarray) -> np.ndarray:
        """The number of the set that each clip comes from, from 0: int64[B].

        Args:
            examples: int[B], ids of clips that were read.
        """
        return np.searchsorted(self.first_examples, examples, side="right") - 1

    def shares(self, examples: np.ndarray) -> dict[str, float]:
        """Name of each set → the share of these clips that comes from it.

        Args:
            examples: int[B], ids of clips that were read, at least one.
        """
        counts = np.bincount(self.numbers(examples), minlength=len(self.names))
        return dict(zip(self.names, (counts / len(examples)).tolist(), strict=True))


def set_names(roots: Sequence[str]) -> tuple[str, ...]:
    """Short names of directories, no two of which are the same.

    A name is the last part of the path. Directories that share it get as many of the parts before it as tell
    them apart: `a/dev`, `b/dev`. One that is given twice gets a number too: `dev`, `dev-2`.

    Args:
        roots: paths of the directories.
    """
    paths = [PurePath(os.path.normpath(root)).parts for root in roots]
    taken = [1] * len(paths)
    while True:
        names = [str(PurePath(*parts[-count:])) for parts, count in zip(paths, taken, strict=True)]
        shared = {name for name, times in collections.Counter(names).items() if times > 1}
        longer = [i for i, name in enumerate(names) if name in shared and taken[i] < len(paths[i])]
        if not longer:
            return _numbered(names)
        for i in longer:
            taken[i] += 1


def _numbered(names: Sequence[str]) -> tuple[str, ...]:
    """The same names, with a number at each that was there before."""
    found: list[str] = []
    for name in names:
        number, candidate = 1, name
        while candidate in found or (number > 1 and candidate in names):
            number += 1
            candidate = f"{name}-{number}"
        found.append(candidate)
    return tuple(found)
