"""Finds the faces of a video of any length."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from data_pipeline.media.face_tracks import EVERY, Track, link
from data_pipeline.media.faces import Face, check_installed, detect
from data_pipeline.media.reasons import Notes
from data_pipeline.media.video_stream import VideoStream


def find_tracks(video: VideoStream, notes: Notes | None = None, threads: int = 1) -> list[Track]:
    """Reads a video once and follows its faces.

    It takes about 50 ms of processor time for each fifth frame. Memory holds boxes, and two pictures for each
    thread.

    Args:
        video: the video.
        notes: to which faults of the file are added.
        threads: that look for faces, each in another frame; the result does not depend on it.

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
    return link(_looks(video, notes, threads))


def _looks(video: VideoStream, notes: Notes | None, threads: int) -> Iterator[tuple[int, list[Face]]]:
    """Yields the number of every `EVERY`-th frame and the faces in it, in order."""
    if threads == 1:  # in this thread, which has loaded its detector for the file before
        yield from ((number, detect(picture)) for number, picture in video.frames(EVERY, notes))
        return
    waiting: deque[tuple[int, Future[list[Face]]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for number, picture in video.frames(EVERY, notes):
            waiting.append((number, pool.submit(detect, picture.copy())))
            if len(waiting) == 2 * threads:
                first, found = waiting.popleft()
                yield first, found.result()
        yield from ((number, found.result()) for number, found in waiting)
