"""`ClipFiles`: a clip without labels before it is prepared, and where its files are."""

import json
import os
from collections.abc import Sequence
from typing import NamedTuple

from etils import epath

from data_pipeline.media import decode as media
from data_pipeline.media.excerpt import load_excerpt


class InputFile(NamedTuple):
    """A file of an input.

    Attributes:
        source: number of the input.
        path: from the input's directory.
    """

    source: int
    path: str

    def within(self, inputs: Sequence[str]) -> epath.Path:
        """Where the file is, given the directories of the inputs."""
        return epath.Path(os.path.join(inputs[self.source], self.path))


class ClipFiles(NamedTuple):
    """A clip, and where its files are or should be.

    Attributes:
        name: unique in the set; one line of UTF-8.
        video: its video.
        audio: its file of sound; None: the sound is a track of the video.
        span: its begin and end after the picture's start, in s; None: it is the whole video.
    """

    name: str
    video: InputFile
    audio: InputFile | None = None
    span: tuple[float, float] | None = None

    def to_line(self) -> str:
        """The clip as a line of JSON; `from_line` reads it."""
        return json.dumps(self, ensure_ascii=False)


def from_line(line: str) -> ClipFiles:
    """Read a line of `ClipFiles.to_line`.

    Raises:
        ValueError: it is no such line.
    """
    name, video, audio, span = json.loads(line)
    return ClipFiles(name, InputFile(*video), audio and InputFile(*audio), span and tuple(span))


class Clips(NamedTuple):
    """The clips of a corpus.

    Attributes:
        clips: sorted by name.
        passed_over: number of files that are no clips, by kind.
        found: what was found and where, in one line.
    """

    clips: list[ClipFiles]
    passed_over: dict[str, int]
    found: str


def check_name(name: str, where: str) -> None:
    """Check that a name can be stored.

    Args:
        name: of a clip.
        where: what holds the clip, for the message.

    Raises:
        ValueError: it is no line of UTF-8.
    """
    if name.splitlines() != [name] or name.encode(errors="ignore").decode() != name:
        raise ValueError(f"{where}: rename {name!r}: a name must be one line of UTF-8")


def load(clip: ClipFiles, inputs: Sequence[str], crop: media.Part) -> media.Clip:
    """Decode a clip.

    Args:
        clip: where its files are.
        inputs: directories of the inputs.
        crop: the part of each frame to keep.

    Raises:
        UnusableClipError, OSError, ImportError: as `media.load_clip`.
    """
    video = clip.video.within(inputs)
    audio = None if clip.audio is None else clip.audio.within(inputs)
    if clip.span is None:
        return media.load_clip(video, audio, crop)
    return load_excerpt(video, audio, *clip.span, crop)
