"""Reads the picture of a video of any length: upright RGB frames at 25 a second, one at a time.

This is for a video of the user on which nothing is trained. So a fault that `video.decode_video` refuses is
noted and read past, if it can be: an interlaced frame is taken as it is, a transparent one is laid on black,
a frame of another shape is scaled to fit into the first one's, and for a damaged frame the one before it is
held. All else is as in `decode`: timestamps decide which frame is on the screen; frames are upright, with
square pixels and all of one size.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from fractions import Fraction
from typing import NamedTuple

import av
import numpy as np
from etils import epath

from data_pipeline.media.containers import exact, not_media, opened_picture, seconds
from data_pipeline.media.frame_times import nearest_frame
from data_pipeline.media.limits import FPS, MAX_GAP, MAX_LENGTH_DIFFERENCE
from data_pipeline.media.reasons import Notes, Reason, UnusableClipError
from data_pipeline.media.track_frames import OnDamage, whole_frames
from data_pipeline.media.upright import Upright


class Frame(NamedTuple):
    """A frame on the screen.

    Attributes:
        number: of the 1/`FPS` s, from 0; the frame is shown `number / FPS` s after the picture's start.
        picture: uint8 RGB [height, width, 3]; the next frame may be the same array.
    """

    number: int
    picture: np.ndarray


class VideoStream:
    """The picture of a video file.

    Attributes:
        start: time of the first frame in its file, in s. Sound that is a track of the file has this clock.
        stated: how long the picture lasts by the file's header, in s; 0 if it does not say.
        size: (height, width) of a frame, in pixels.
    """

    def __init__(self, path: epath.PathLike) -> None:
        """Opens a file, decodes its first frame and closes it.

        Args:
            path: of the file; its ending says what it is (`containers.VIDEOS`).

        Raises:
            UnusableClipError: there is no such file, it is no media file, or no picture in it decodes. The
                reason is `Reason.NO_VIDEO_STREAM` if it is a media file without a picture.
            OSError: the file exists but cannot be read.
        """
        self._path = epath.Path(path)
        with self._opened() as (container, stream):
            self.stated = float(seconds(stream.duration, stream.time_base))
            first = next(whole_frames(container, stream, av.VideoFrame, _ignore), None)
            if first is None:
                raise UnusableClipError(Reason.CORRUPT_VIDEO, f"{self._path.name} has no frame that decodes")
            upright = self._upright(stream, Notes())
            upright.picture(first)
            self.start: Fraction = seconds(first.pts, first.time_base)
            self.size = upright.size

    def frames(self, every: int = 1, notes: Notes | None = None) -> Iterator[Frame]:
        """Reads the file from its beginning and yields the frames on the screen, in order.

        Memory holds a few decoded frames, however long the file is.

        Args:
            every: yield the frames whose number is a multiple of this.
            notes: to which faults that were read past are added.

        Raises:
            UnusableClipError: a timestamp is `MAX_GAP` or more after the one before it.
            OSError: the file cannot be read.
        """
        notes = Notes() if notes is None else notes
        with self._opened() as (container, stream):
            upright = self._upright(stream, notes)
            decoded = whole_frames(container, stream, av.VideoFrame, self._damage_noted(notes))
            for begin, end, frame in self._spans(decoded, notes):
                numbers = range(-(-begin // every) * every, end, every)
                if numbers:
                    picture = upright.picture(frame)
                    yield from (Frame(number, picture) for number in numbers)

    def _spans(
        self, decoded: Iterator[av.VideoFrame], notes: Notes
    ) -> Iterator[tuple[int, int, av.VideoFrame]]:
        """Yields each frame with the number of its first 1/`FPS` s and of the first one after its last."""
        frame = next(decoded)
        tick, first, time = exact(frame.time_base), frame.pts or 0, 0
        for following in decoded:
            later = (following.pts or 0) - first
            if later < time:
                detail = f"{self._path.name}: a frame goes back in time; it is left out"
                notes.add(Reason.CORRUPT_VIDEO, detail)
                continue
            if (later - time) * tick >= MAX_GAP:
                gap = f"no frame for {float((later - time) * tick) / 3_600:.1f} hours"
                detail = f"the timestamps of {self._path.name} are wrong: {gap}"
                raise UnusableClipError(Reason.CORRUPT_VIDEO, detail)
            yield nearest_frame(time, tick), nearest_frame(later, tick), frame
            frame, time = following, later
        known = 0 < frame.duration * tick < MAX_GAP
        length = time + (frame.duration if known else round(1 / FPS / tick))
        yield nearest_frame(time, tick), nearest_frame(length, tick), frame
        held = float((length + max(first, 0)) * tick)  # the header may count the delay of a late picture
        if self.stated - held >= MAX_LENGTH_DIFFERENCE:
            stated = f"of the {self.stated:.2f} s of picture that its header says"
            notes.add(Reason.TRUNCATED_VIDEO, f"{self._path.name} holds {held:.2f} s {stated}")

    def _opened(self) -> AbstractContextManager[tuple[av.container.InputContainer, av.VideoStream]]:
        """Opens the file and chooses its track."""
        return opened_picture(self._path, not_media)

    def _upright(self, stream: av.VideoStream, notes: Notes) -> Upright:
        return Upright(exact(stream.sample_aspect_ratio), self._path.name, notes.add)

    def _damage_noted(self, notes: Notes) -> OnDamage:
        def add(what: str, at: int | None) -> None:
            notes.add(Reason.CORRUPT_VIDEO, f"{self._path.name}: {what}; the frame before it is held")

        return add


def _ignore(what: str, at: int | None) -> None:
    """Leaves a damage unnoted; `VideoStream.frames` meets it again."""
