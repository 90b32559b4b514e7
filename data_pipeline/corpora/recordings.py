"""Cuts long recordings into clips, before any is decoded."""

import itertools
from collections.abc import Sequence

from data_pipeline.common.threads import in_threads
from data_pipeline.corpora.clip_files import ClipFiles, Clips
from data_pipeline.corpora.clip_list import span_name
from data_pipeline.media.limits import FPS
from data_pipeline.media.reasons import UnusableClipError
from data_pipeline.media.recording import recording_seconds

_OPENERS = 16  # files that are opened at a time


def cut(clips: Clips, inputs: Sequence[str], clip_seconds: float) -> Clips:
    """Cut every recording into clips of about the same length; show progress meanwhile.

    Args:
        clips: the recordings, or parts of them.
        inputs: directories of the inputs.
        clip_seconds: length of a clip in s. The rest of a recording is a clip of its own if it is at least
            half as long; else the last clip has it too. A recording that cannot be opened stays whole, so
            that preparation reports it.

    Returns:
        The clips, sorted by name; the names of parts end with their begin and end.

    Raises:
        OSError: a file exists but cannot be read.
    """

    def spans(clip: ClipFiles) -> list[ClipFiles]:
        begin, end = clip.span or (0.0, _seconds(clip, inputs))
        parts = parts_of(begin, end, clip_seconds)
        if len(parts) < 2:
            return [clip]
        name = clip.name.rpartition("@")[0] if clip.span else clip.name
        return [clip._replace(name=span_name(name, part), span=part) for part in parts]

    parts = in_threads(spans, clips.clips, _OPENERS, "measuring", "recording")
    found = sorted(itertools.chain.from_iterable(parts))
    return Clips(found, clips.passed_over, f"{clips.found}, cut into {len(found):,} clips")


def parts_of(begin: float, end: float, seconds: float) -> list[tuple[float, float]]:
    """The parts of a recording, whose begins lie on frames of `FPS`.

    Args:
        begin: of what is cut, in s.
        end: of it, in s; not after the begin if its length is not known.
        seconds: length of a part.
    """
    step = max(round(seconds * FPS), 1)
    length = int((end - begin) * FPS + 1e-6)
    count = max((length + step // 2) // step, 1)
    ends = [*range(step, step * count, step), length]
    return [
        (begin + first / FPS, begin + last / FPS) for first, last in zip([0, *ends[:-1]], ends, strict=True)
    ]


def _seconds(clip: ClipFiles, inputs: Sequence[str]) -> float:
    """How long the video of a clip lasts, in s; 0 if it cannot be opened."""
    try:
        return recording_seconds(clip.video.within(inputs))
    except UnusableClipError:
        return 0.0
