"""Cuts a video into windows of the length that the model sees, one after another while it is read."""

import dataclasses
from collections import deque
from typing import NamedTuple

import numpy as np

from data_pipeline.format.clip_sampling import FEWEST_SAMPLES, ClipSampling
from data_pipeline.media.limits import FPS, SAMPLE_RATE


class Window(NamedTuple):
    """A part of a video, as long as a clip that the model was trained on.

    Attributes:
        begin: its begin after the picture's start, in s.
        end: its end, in s; that of the video if this comes earlier.
        face: number of the face, from 0.
        frames: uint8 [T, S, S, 3]; None without a picture. A short video repeats its last frame.
        sound: int16 [n], mono at 16 kHz; None where there is none.
    """

    begin: float
    end: float
    face: int
    frames: np.ndarray | None
    sound: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Windows:
    """How a video is cut.

    Attributes:
        sampling: the frames of a window.
        hop: from the begin of one window to that of the next, in frames of 1/`FPS` s; a multiple of the
            stride, so that windows share their frames.

    Raises:
        ValueError: the hop is not such a multiple.
    """

    sampling: ClipSampling
    hop: int

    def __post_init__(self) -> None:
        if self.hop < 1 or self.hop % self.sampling.stride:
            raise ValueError(f"a hop of {self.hop} frames is no multiple of stride {self.sampling.stride}")

    def sound_of(self, sound: np.ndarray | None, first: int) -> np.ndarray | None:
        """The sound of the window that begins with a frame, as pre-training cuts it.

        Args:
            sound: int16 [n] from the picture's start; None if there is none.
            first: number of the frame.

        Returns:
            int16 [m]; None if there is too little for a log-mel spectrogram.
        """
        if sound is None:
            return None
        begin = SAMPLE_RATE * first // FPS
        part = sound[begin : begin + self.sampling.audio_samples(FPS, SAMPLE_RATE)]
        return part if len(part) >= FEWEST_SAMPLES else None

    def of_sound_alone(self, sound: np.ndarray) -> list[Window]:
        """The windows of a sound without a picture.

        Args:
            sound: int16 [n].
        """
        length = -(-len(sound) * FPS // SAMPLE_RATE)
        beyond = length - self.sampling.window
        firsts = list(range(0, max(beyond, 0) + 1, self.hop))
        if beyond > firsts[-1]:  # the last one ends with the sound
            firsts.append(beyond)
        parts = [(first, self.sound_of(sound, first)) for first in firsts]
        return [
            Window(first / FPS, self._end(first, length), 0, None, part)
            for first, part in parts
            if part is not None
        ]

    def _end(self, first: int, length: int) -> float:
        return min(first + self.sampling.window, length) / FPS


class FaceWindows:
    """Collects the crops of one face and makes a window whenever one is complete.

    Args:
        windows: how the video is cut.
        sound: int16 [n] from the picture's start; None if there is none.
        face: number of the face.
    """

    def __init__(self, windows: Windows, sound: np.ndarray | None, face: int) -> None:
        self._windows, self._sound, self._face = windows, sound, face
        self._kept: deque[tuple[int, np.ndarray]] = deque(maxlen=windows.sampling.frames)
        self._first: int | None = None
        self._last_made = -1

    def add(self, number: int, crop: np.ndarray) -> Window | None:
        """Takes the next frame of the face.

        Args:
            number: of the frame; by the stride larger than the one before.
            crop: uint8 [S, S, 3].

        Returns:
            The window that ends with this frame, if one does.

        Raises:
            ValueError: the frame does not follow the one before it.
        """
        stride = self._windows.sampling.stride
        if self._kept and number != self._kept[-1][0] + stride:
            raise ValueError(f"frame {number} does not follow frame {self._kept[-1][0]} at stride {stride}")
        if self._first is None:
            self._first = number
        self._kept.append((number, crop))
        if len(self._kept) < self._windows.sampling.frames:
            return None
        return None if (self._kept[0][0] - self._first) % self._windows.hop else self._made()

    def finish(self) -> Window | None:
        """The last window, which ends with the face's last frame, if the one before does not."""
        return self._made() if self._kept and self._kept[-1][0] > self._last_made else None

    def _made(self) -> Window:
        (first, _), (last, crop) = self._kept[0], self._kept[-1]
        self._last_made = last
        crops = [each for _, each in self._kept]
        crops += [crop] * (self._windows.sampling.frames - len(crops))
        end = (last + self._windows.sampling.stride) / FPS
        sound = self._windows.sound_of(self._sound, first)
        return Window(first / FPS, end, self._face, np.stack(crops), sound)
