"""Finding a shard of a prepared set and damaging it."""

from pathlib import Path


def shard(root: Path, kind: str, index: int) -> Path:
    """The file of shard `index` of a set; `kind` is "video" or "audio"."""
    return sorted(root.glob(f"{kind}/*/*array_record*"))[index]


def flip_bytes(path: Path, start: float, end: float) -> None:
    """Changes every byte between two places, each a fraction of the file's length."""
    data = bytearray(path.read_bytes())
    place = slice(int(start * len(data)), int(end * len(data)))
    data[place] = bytes(byte ^ 0x5A for byte in data[place])
    path.write_bytes(data)


def truncate(path: Path) -> None:
    """Keeps the first half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
