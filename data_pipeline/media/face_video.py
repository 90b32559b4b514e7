"""Decodes the picture of a clip to its largest face: finds it, follows it, and cuts it out of every frame."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np

from data_pipeline.media.face_crop import crop_box, cut
from data_pipeline.media.face_tracks import EVERY, Track, link
from data_pipeline.media.faces import Face, check_installed, detect
from data_pipeline.media.limits import FPS
from data_pipeline.media.reasons import Reason, UnusableClipError
from data_pipeline.media.video import Encode, Picture

LEAST_SHARE = 0.5
"""The face must be there in this share of the clip, at least."""


def decode_face(
    decode: Callable[[Encode], Picture], name: str, side: int, encode: Callable[[np.ndarray], bytes]
) -> Picture:
    """Decodes the largest face of a video file or of an excerpt of it.

    It is decoded twice: faces are found in every `face_tracks.EVERY`-th 1/`FPS` s and in the last frame
    first.

    Args:
        decode: decodes it, as `video.decode_frames` does.
        name: the file's name, for messages.
        side: of the square that is cut out, in pixels.
        encode: makes the JPEG of a square, uint8 RGB [side, side, 3].

    Raises:
        UnusableClipError: it cannot be used, or there is no face in half of it or more.
        ImportError: the extra ``face`` is not installed.
    """
    check_installed()
    looks: dict[int, list[Face]] = {}
    looked: set[int] = set()
    last: tuple[int, np.ndarray] | None = None

    def look(time: Fraction, picture: np.ndarray) -> bytes:
        nonlocal last
        last = number, _ = round(time * FPS), picture
        if number // EVERY not in looked:
            looked.add(number // EVERY)
            looks[number] = detect(picture)
        return b""

    n_frames = len(decode(look).jpegs)
    if last is not None and last[0] not in looks:
        looks[last[0]] = detect(last[1])
    track = _largest(sorted(looks.items()), n_frames, name)

    def cut_out(time: Fraction, picture: np.ndarray) -> bytes:
        return encode(cut(picture, crop_box(track.box(round(time * FPS))), side))

    return decode(cut_out)


def _largest(looks: list[tuple[int, list[Face]]], n_frames: int, name: str) -> Track:
    """Returns the track of which most is seen.

    Raises:
        UnusableClipError: there is none, or it is too short.
    """
    tracks = link(looks)
    if not tracks:
        raise UnusableClipError(Reason.NO_FACE, f"{name}: no face is found")
    n_with = sum(tracks[0].begin <= number < tracks[0].end for number, _ in looks)
    if n_with < LEAST_SHARE * len(looks):
        detail = f"{name}: the largest face is there in {n_with / len(looks):.0%} of {n_frames / FPS:.1f} s"
        raise UnusableClipError(Reason.NO_FACE, detail)
    return tracks[0]
