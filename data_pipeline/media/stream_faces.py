"""Finds the faces of a video of any length."""

from data_pipeline.media.face_tracks import EVERY, Track, link
from data_pipeline.media.faces import check_installed, detect
from data_pipeline.media.reasons import Notes
from data_pipeline.media.video_stream import VideoStream


def find_tracks(video: VideoStream, notes: Notes | None = None) -> list[Track]:
    """Reads a video once and follows its faces.

    It takes about 50 ms of processor time for each fifth frame. Memory holds boxes, not pictures.

    Args:
        video: the video.
        notes: to which faults of the file are added.

    Returns:
        The tracks, in frames of 1/25 s from the picture's start; the one of which most is seen comes first.
        `Track.box` gives the box in a frame, `face_crop.crop_box` its square, and `face_crop.cut` the picture
        for the model.

    Raises:
        UnusableClipError: the file cannot be read on.
        OSError: it cannot be read.
        ImportError: the extra ``face`` is not installed.
    """
    check_installed()
    return link((number, detect(picture)) for number, picture in video.frames(EVERY, notes))
