"""Views of a video that find faces and follow them: the largest one, or each.

The video is decoded twice: faces are found first, in every `face_tracks.EVERY`-th frame. A video without a
face is seen as `plain_views.centre` sees it, and a note says so.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from data_pipeline.media import plain_views
from data_pipeline.media.face_crop import crop_box, cut
from data_pipeline.media.face_tracks import EVERY, Track
from data_pipeline.media.faces import check_installed
from data_pipeline.media.limits import FPS
from data_pipeline.media.reasons import Notes, Reason
from data_pipeline.media.stream_faces import find_tracks
from data_pipeline.media.video_stream import VideoStream
from data_pipeline.media.video_windows import Seen, View

LEAST_FRAMES = FPS
"""Frames that a face must be followed for to count, if any face is: 1 s."""


class Part(NamedTuple):
    """Frames in which a face is shown.

    Attributes:
        face: number of the face.
        track: where it is.
        begin: number of the first frame.
        end: the number after the last frame.
    """

    face: int
    track: Track
    begin: int
    end: int


def largest(side: int, threads: int = 1) -> View:
    """At every moment one face: of those that are there, the one of which most is seen in all.

    Args:
        side: of the crops, in pixels.
        threads: that look for faces in one video.
    """
    return _faces(largest_parts, side, threads)


def each(side: int, threads: int = 1) -> View:
    """Every face; the one of which most is seen has number 0. See `largest`."""
    return _faces(all_parts, side, threads)


def all_parts(tracks: Sequence[Track]) -> list[Part]:
    """Every track in all of its frames.

    Args:
        tracks: the one of which most is seen comes first.
    """
    return [Part(number, track, *_span(track)) for number, track in enumerate(_lasting(tracks))]


def largest_parts(tracks: Sequence[Track]) -> list[Part]:
    """Parts of tracks that do not overlap; where several faces are there, the first track counts.

    Args:
        tracks: the one of which most is seen comes first.
    """
    parts: list[Part] = []
    for track in _lasting(tracks):
        begin, end = _span(track)
        for taken in sorted(parts, key=lambda part: part.begin):
            if taken.begin < end and begin < taken.end:
                if begin < taken.begin:
                    parts.append(Part(0, track, begin, taken.begin))
                begin = taken.end
        if begin < end:
            parts.append(Part(0, track, begin, end))
    return sorted(parts, key=lambda part: part.begin)


def _lasting(tracks: Sequence[Track]) -> Sequence[Track]:
    return [track for track in tracks if len(track.boxes) >= LEAST_FRAMES] or tracks[:1]


def _span(track: Track) -> tuple[int, int]:
    """A track's frames, with those before the first and after the last look."""
    return max(track.begin - EVERY + 1, 0), track.end + EVERY - 1


def _faces(choose: Callable[[Sequence[Track]], list[Part]], side: int, threads: int) -> View:
    check_installed()

    def look(stream: VideoStream, notes: Notes) -> Callable[[int, np.ndarray], list[Seen]]:
        parts = choose(find_tracks(stream, threads=threads))
        if not parts:
            notes.add(Reason.NO_FACE, "no face is found: the centre of the picture is used")
            return plain_views.centre(side)(stream, notes)

        def cut_out(number: int, picture: np.ndarray) -> list[Seen]:
            return [
                Seen(place, part.face, cut(picture, crop_box(part.track.box(number)), side))
                for place, part in enumerate(parts)
                if part.begin <= number < part.end
            ]

        return cut_out

    return look
