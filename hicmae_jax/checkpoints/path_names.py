"""Refuses directories whose names Orbax or TensorStore would read as something else.

They save under URLs and search with patterns: with `?`, `#`, `%` or `|` in a name the first save fails, after
`a%20b` another directory is written to, and `*` or `[…]` may find the files of another run.
"""

from etils import epath

from hicmae_jax.checkpoints import reader

REFUSED = "?#%|*[\\"


def check_path(directory: epath.PathLike) -> None:
    """Refuse a directory in whose path no checkpoint can be saved.

    Args:
        directory: directory of a run, which need not exist.

    Raises:
        ValueError: names the directory and the characters.
    """
    path = str(reader.absolute(directory))
    found = [character for character in REFUSED if character in path]
    if found:
        raise ValueError(
            f"{path}: checkpoints cannot be saved under a name with {' '.join(found)}: give another directory"
        )
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(
            f"{path!r}: checkpoints cannot be saved under a name that is not text in this locale: give "
            "another directory, or set LC_ALL=C.UTF-8"
        ) from None
