"""Walks a tree of files: every directory once, links last."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from etils import epath

from data_pipeline.common.paths import is_local


class Place(NamedTuple):
    """A directory of a tree.

    Attributes:
        path: from the root of the tree; "" for the root itself.
        not_entered: names of its subdirectories that are not walked.
        files: names of its files.
    """

    path: str
    not_entered: list[str]
    files: list[str]


def suffix_rank(suffix: str, suffixes: Sequence[str]) -> tuple[int, bool, str]:
    """A key that sorts the files of a clip: the better kind first, and small letters before capitals.

    Args:
        suffix: of a file.
        suffixes: in small letters, the best one first; others come last.
    """
    lowered = suffix.lower()
    place = suffixes.index(lowered) if lowered in suffixes else len(suffixes)
    return place, suffix != lowered, suffix


Enters = Callable[[str, str], bool]
"""Whether to walk a subdirectory, by the path of its parent and its name."""


def walk(root: epath.Path, enters: Enters) -> Iterator[Place]:
    """Yield every directory of a tree once.

    Links to directories are followed, because parts of a corpus may lie on other disks. A directory that is
    reached in several ways, or by a loop of links, is yielded once, by a path without links if there is one.

    Args:
        root: of the tree.
        enters: decides which subdirectories are walked.

    Raises:
        OSError: a directory cannot be listed.
    """
    return _walk_disk(os.fspath(root), enters) if is_local(root) else _walk_bucket(root, enters)


def _walk_disk(root: str, enters: Enters) -> Iterator[Place]:
    seen: set[tuple[int, int]] = set()
    pending, links = [""], list[str]()
    while pending or links:
        if not pending:
            links.sort(reverse=True)
            pending.append(links.pop())
        place = pending.pop()
        directory = os.path.join(root, place)
        status = os.stat(directory)
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        files, not_entered = list[str](), list[str]()
        with os.scandir(directory) as entries:
            for entry in entries:
                if not entry.is_dir():
                    files.append(entry.name)
                elif not enters(place, entry.name):
                    not_entered.append(entry.name)
                else:
                    inside = links if entry.is_symlink() else pending
                    inside.append(os.path.join(place, entry.name))
        yield Place(place, sorted(not_entered), files)


def _walk_bucket(root: epath.Path, enters: Enters) -> Iterator[Place]:
    for parent, subdirectories, files in root.walk(on_error=_raise):
        place = os.path.relpath(parent, root)
        place = "" if place == os.curdir else place
        entered = [name for name in subdirectories if enters(place, name)]
        not_entered = sorted(set(subdirectories).difference(entered))
        subdirectories[:] = entered
        yield Place(place, not_entered, files)


def _raise(error: OSError) -> None:
    raise error
