"""The control groups of this process: how a container, a batch system or a cluster limits it on Linux."""

from collections.abc import Iterator
from pathlib import Path


def directories(controller: str, root: Path = Path("/")) -> Iterator[Path]:
    """Yields the directories of this process's groups, and of the groups that hold them; some may be absent.

    Args:
        controller: what is limited, such as ``memory`` or ``cpu``.
        root: where `/proc` and `/sys` are.
    """
    groups = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, inside = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = groups / controllers if controllers else groups
        group = top / inside.lstrip("/")
        # In a container, the name of the group may be that outside, of which only the top can be seen.
        yield from (path for path in (group, *group.parents) if path.is_relative_to(top))


def numbers(file: Path) -> list[int]:
    """Returns the numbers in a file; none if there is no such file, or it holds a word, such as ``max``."""
    try:
        return [int(word) for word in file.read_text(encoding="utf-8").split()]
    except (OSError, ValueError):
        return []
