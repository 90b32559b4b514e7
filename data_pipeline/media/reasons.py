"""Faults of media files: their kinds, the error that carries one, and what a reader does about one."""

import enum
from collections import Counter
from collections.abc import Callable


class Reason(enum.StrEnum):
    """Why a clip cannot be used."""

    MISSING_VIDEO = "missing_video"  # there is a sound file but no video file
    MISSING_FRAMES = "missing_frames"  # no directory of face frames, or no picture in it
    NOT_MEDIA = "not_media"  # another kind of file than its name says
    NO_VIDEO_STREAM = "no_video_stream"  # no picture, or only a still one, such as a cover
    TRUNCATED_VIDEO = "truncated_video"  # the file is shorter than its header says
    CORRUPT_VIDEO = "corrupt_video"  # the file opens but does not decode
    TILTED_VIDEO = "tilted_video"  # its header turns the picture by another angle than 90°, 180° or 270°
    INTERLACED_VIDEO = "interlaced_video"  # the lines of a frame are of two moments
    TRANSPARENT_VIDEO = "transparent_video"  # nothing says what is behind the picture
    CHANGING_VIDEO = "changing_video"  # frames of different shapes
    CORRUPT_FRAME = "corrupt_frame"  # a picture of a directory of face frames does not decode
    FRAME_TOO_SMALL = "frame_too_small"  # smaller than the crop
    NO_FACE = "no_face"  # faces are cut out, and there is none in half of the clip or more
    TOO_FEW_FRAMES = "too_few_frames"
    MISSING_AUDIO = "missing_audio"  # neither a sound file nor a track in the video file
    EMPTY_AUDIO = "empty_audio"
    CORRUPT_AUDIO = "corrupt_audio"
    OVERLAPPING_AUDIO = "overlapping_audio"  # several sounds for the same moment
    CANCELLED_AUDIO = "cancelled_audio"  # the channels cancel each other, so that mono would be silence
    TOO_SHORT_AUDIO = "too_short_audio"
    LENGTH_MISMATCH = "length_mismatch"  # the lengths of sound and picture differ by 0.1 s or more
    TOO_LONG = "too_long"


class UnusableClipError(Exception):
    """A clip that cannot be used.

    Attributes:
        reason: the kind of fault.
        detail: one line that describes it.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


OnFault = Callable[[Reason, str], None]
"""What a reader does about a fault that it could read on from: it raises an error, or notes the fault."""


def refuse(reason: Reason, detail: str) -> None:
    """Refuses the file.

    Raises:
        UnusableClipError: always.
    """
    raise UnusableClipError(reason, detail)


class Notes:
    """Faults that a reader read on from, for a file of the user that nothing is trained on."""

    def __init__(self) -> None:
        self._count: Counter[tuple[Reason, str]] = Counter()

    def add(self, reason: Reason, detail: str) -> None:
        """Notes a fault; one that is noted again is counted."""
        self._count[reason, detail] += 1

    def lines(self) -> list[str]:
        """Returns a line for each fault, in the order in which they were met first."""
        return [
            f"{reason}: {detail}{f' ({count:,} times)' if count > 1 else ''}"
            for (reason, detail), count in self._count.items()
        ]
