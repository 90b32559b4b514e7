"""Finds the labelled clips of a data set: in its download, or as annotation lists name them."""

from collections.abc import Sequence

from etils import epath

from data_pipeline.corpora.annotations import Rewrite, read_list
from data_pipeline.corpora.downloads import FINDERS
from data_pipeline.corpora.found_clip import FoundClip
from data_pipeline.corpora.protocols import protocol, protocols_of
from data_pipeline.corpora.split_lists import parse_splits, read_splits


def find(
    dataset: str,
    root: epath.PathLike,
    *,
    frames: epath.PathLike | None = None,
    annotations: epath.PathLike | None = None,
    splits: Sequence[str] = (),
    rewrites: Sequence[Rewrite] = (),
) -> list[FoundClip]:
    """Finds the labelled clips of a data set.

    Args:
        dataset: name of the data set.
        root: directory of the download; relative paths of lists are below it.
        frames: directory that holds a directory of face frames for each clip; None: the frames are those of
            the videos, or lists name them.
        annotations: list of all clips of a data set whose folds names decide.
        splits: directories of lists of each fold, as `split_lists.parse_splits` reads them, for a data set
            whose folds files decide.
        rewrites: of beginnings of paths in lists.

    Returns:
        The clips, sorted by name.

    Raises:
        FileNotFoundError: a list or the download is not there.
        ValueError: the options do not fit the data set, a line cannot be understood, or no clip is found.
    """
    root = epath.Path(root)
    known = protocols_of(dataset)
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is no directory: --input is that of the data set {dataset}")
    if frames is not None and not epath.Path(frames).is_dir():
        raise FileNotFoundError(f"{frames} is no directory: --frames holds a directory of face frames a clip")
    if annotations is not None and splits:
        raise ValueError("--annotations and --splits are both given: give one")
    if frames is not None and (annotations is not None or splits):
        raise ValueError(
            "--frames does not go with lists, which name the face frames themselves: leave it out"
        )
    directories = parse_splits(dataset, splits)
    if directories:
        clips = _merged(
            [
                read_splits(epath.Path(directory), protocol(name), root, rewrites)
                for name, directory in directories.items()
            ]
        )
    elif annotations is not None:
        clips = read_list(epath.Path(annotations), known[0], root, rewrites)
    elif dataset in FINDERS:
        clips = FINDERS[dataset](root, None if frames is None else epath.Path(frames))
    else:
        option = "--splits" if known[0].fold_by == "official" else "--annotations"
        raise ValueError(f"{option} is missing: the labels of {dataset} are read from lists of its clips")
    _check(dataset, clips, root)
    return sorted(clips, key=lambda clip: clip.name)


def _check(dataset: str, clips: list[FoundClip], root: epath.Path) -> None:
    if not clips:
        raise ValueError(
            f"{root} holds no clip of {dataset}: see the layout in data_pipeline/corpora/downloads.py"
        )
    names: set[str] = set()
    for clip in clips:
        if clip.name in names:
            raise ValueError(f"{dataset} clip {clip.name} is listed twice: list it once")
        if clip.name.encode(errors="ignore").decode() != clip.name or not clip.name.isprintable():
            raise ValueError(f"{dataset}: rename {clip.name!r}: a name must be printable UTF-8")
        names.add(clip.name)


def _merged(lists: list[list[FoundClip]]) -> list[FoundClip]:
    """Joins the clips of several protocols: labels and folds of both."""
    clips: dict[str, FoundClip] = {}
    for clip in (clip for listed in lists for clip in listed):
        known = clips.get(clip.name, clip)
        if known[4:] != clip[4:]:
            raise ValueError(f"clip {clip.name} has other files in another list: {known[4:]} and {clip[4:]}")
        clips[clip.name] = clip._replace(
            labels={**known.labels, **clip.labels}, folds={**known.folds, **clip.folds}
        )
    return list(clips.values())
