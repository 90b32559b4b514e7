"""Empty files, for tests of where clips are found."""

from os import PathLike
from pathlib import Path


def touch(root: PathLike, *names: str) -> None:
    """Make empty files and the directories in which they lie."""
    for name in names:
        path = Path(root) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
