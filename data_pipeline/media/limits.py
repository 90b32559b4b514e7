"""The rates of stored clips, and how long and how large a clip may be."""

from data_pipeline.media.reasons import Reason, UnusableClipError

FPS = 25
SAMPLE_RATE = 16_000
MAX_LENGTH_DIFFERENCE = 0.1
"""Seconds. A clip whose sound and picture differ by this or more is left out, as in the published list."""
MAX_SECONDS = 600
MAX_BYTES = 2**30
MAX_GAP = 3_600
"""Seconds. A picture may stay, or silence last, for less than this; more comes of a wrong timestamp."""


def check_seconds(seconds: float, name: str) -> None:
    """Checks that a file is not too long.

    Args:
        seconds: length of what has been decoded so far.
        name: the file's name, for the message.

    Raises:
        UnusableClipError: it lasts more than `MAX_SECONDS`.
    """
    if seconds > MAX_SECONDS:
        raise UnusableClipError(Reason.TOO_LONG, f"{name} lasts more than {MAX_SECONDS} s")
