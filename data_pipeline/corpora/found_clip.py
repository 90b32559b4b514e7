"""`FoundClip`: a labelled clip of a data set before it is prepared."""

from collections.abc import Mapping
from typing import NamedTuple


class FoundClip(NamedTuple):
    """A labelled clip, and where its files are or should be.

    Attributes:
        name: unique in the data set.
        speaker: the speaker, or the session, that is held out as a whole; "" if it is not known.
        labels: name of a label → class as text, or a number for regression.
        folds: name of a protocol → fold, where files that come with the data set decide (`LabelledClip`).
        frames: directory of its face frames; None: they are in `video`.
        video: its video file; None if there is none.
        audio: its file of sound; None: the sound is a track of `video`.
    """

    name: str
    speaker: str
    labels: Mapping[str, str | float]
    folds: Mapping[str, str]
    frames: str | None
    video: str | None
    audio: str | None
