"""Where the clips of a corpus are: the layouts that are known, and which one an input has."""

import dataclasses
import os

from etils import epath

from data_pipeline.corpora import clip_list, folder, recordings, voxceleb2
from data_pipeline.corpora.clip_files import Clips

VOXCELEB2, FOLDER, LIST = "voxceleb2", "folder", "list"
LAYOUTS = (VOXCELEB2, FOLDER, LIST)


@dataclasses.dataclass(frozen=True)
class Corpus:
    """The inputs of a preparation.

    Attributes:
        inputs: directories; of the layout ``list``, files.
        layout: one of `LAYOUTS`; None: as the inputs look like.
        root: of the layout ``list``, the directory of relative paths; None: that of each list.
        most_missing: of the layout ``list``, the largest share of clips of which a file is missing.

    Raises:
        ValueError: there is no input, inputs look like several layouts, or a root is given without a list.
    """

    inputs: tuple[epath.Path, ...]
    layout: str | None = None
    root: epath.Path | None = None
    most_missing: float = 0.05

    def __post_init__(self) -> None:
        if not self.inputs:
            raise ValueError("no input is given: name at least one by --input")
        if self.root is not None and self.layout not in (None, LIST):
            raise ValueError(f"--root is for --layout=list, not for {self.layout}: leave it out")

    def layout_for(self, split: str) -> str:
        """The layout that is given, or that the inputs have.

        Args:
            split: of VoxCeleb2.

        Raises:
            FileNotFoundError: an input is missing.
            ValueError: the inputs have several layouts.
        """
        if self.layout is not None:
            return self.layout
        found = {detect(path, split): path for path in self.inputs}
        if len(found) > 1:
            listed = ", ".join(f"{path} looks like {layout}" for layout, path in found.items())
            raise ValueError(f"{listed}: prepare them one after another, or say --layout")
        (layout,) = found
        if self.root is not None and layout != LIST:
            raise ValueError(f"--root is for lists, but {self.inputs[0]} is a directory: leave it out")
        return layout

    def directories(self, layout: str) -> tuple[str, ...]:
        """The directories from which the paths of clips are given, one for each input."""
        if layout == LIST:
            return tuple(clip_list.roots_of(self.inputs, self.root))
        return tuple(map(os.fspath, self.inputs))

    def find(self, layout: str, split: str, clip_seconds: float | None = None) -> Clips:
        """Find all clips, and show progress meanwhile.

        Args:
            layout: from `layout_for`.
            split: of VoxCeleb2.
            clip_seconds: length of the clips into which recordings are cut, in s; None: they are not cut.

        Raises:
            FileNotFoundError: an input does not have the layout, or a listed file is missing.
            ValueError: there is no clip, or one that cannot be named.
            OSError: a directory or a file cannot be read.
        """
        if layout == VOXCELEB2:
            clips = voxceleb2.find_clips(self.inputs, split)
        elif layout == FOLDER:
            clips = folder.find_clips(self.inputs)
        else:
            clips = clip_list.find_clips(self.inputs, self.root, self.most_missing)
        if clip_seconds is None:
            return clips
        return recordings.cut(clips, self.directories(layout), clip_seconds)


def detect(path: epath.Path, split: str) -> str:
    """The layout of an input.

    Args:
        path: of the input.
        split: of VoxCeleb2.

    Raises:
        FileNotFoundError: there is no such input.
    """
    if path.is_dir():
        # Another split of VoxCeleb2 is no folder of videos: `find` then says which split there is.
        splits = (split, *voxceleb2.SPLITS)
        return VOXCELEB2 if any(voxceleb2.has_layout(path, each) for each in splits) else FOLDER
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: --input is a directory of videos or a list of them")
    return LIST
