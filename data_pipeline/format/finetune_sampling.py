"""Which frames and which sound of a labelled clip make a sample (as in the published fine-tuning code).

Pure functions of numbers. The only random input is `draw`, a uniform number from the caller. Unlike in
pre-training, the span of sound follows from the share of the clip that the frames take, because the pictures
of some data sets have another rate than 25 frames a second, or none that is known.
"""

import dataclasses
import math

import numpy as np

from data_pipeline.format.clip_sampling import FEWEST_SAMPLES

WHOLE_FILE_BELOW = 40_960
"""A file with fewer samples, 2.56 s, is used whole where its span is too short."""


class UnusableSpanError(ValueError):
    """The sound of a sample is too short. The published code stops here with an error."""


@dataclasses.dataclass(frozen=True)
class FinetuneSampling:
    """How samples are cut out of a labelled clip.

    Attributes:
        frames: frames in a sample.
        stride: distance between two frames of a view, in frames of the clip; the average one in training.

    Raises:
        ValueError: fewer than 2 frames, or a stride below 1.
    """

    frames: int = 16
    stride: int = 4

    def __post_init__(self) -> None:
        if self.frames < 2 or self.stride < 1:
            raise ValueError(
                f"frames {self.frames} and stride {self.stride}: choose at least 2 frames and a stride of 1"
            )

    @property
    def window(self) -> int:
        """Number of frames of the clip that a sample spans."""
        return self.frames * self.stride

    def train_start(self, draw: float, n_frames: int) -> int:
        """Returns the first frame of a training sample.

        Args:
            draw: uniform in [0, 1).
            n_frames: frames of the clip.

        Returns:
            A frame from 0 to n_frames - window - 1, each with the same probability; 0 if the clip is not
            longer than the window.
        """
        return int(draw * max(0, n_frames - self.window))

    def train_frames(self, start: int, n_frames: int) -> list[int]:
        """Returns the frames of a training sample (0-based), equally spaced over the window or the clip.

        Args:
            start: first frame of the sample; not used if the clip is not longer than the window.
            n_frames: frames of the clip.

        Returns:
            `frames` indices, in order. A clip that is not longer than the window gives n_frames // stride
            of them, and then its last frame again and again.

        Raises:
            ValueError: the clip has no frame.
        """
        _check_frames(n_frames)
        if n_frames > self.window:
            offsets = [i * self.window // (self.frames - 1) for i in range(self.frames)]
            return [start + min(offset, self.window - 1) for offset in offsets]
        points = np.linspace(0, n_frames, n_frames // self.stride).astype(int).tolist()
        return self._filled([min(point, n_frames - 1) for point in points], n_frames - 1)

    def view_frames(self, n_frames: int, view: int) -> list[int]:
        """Returns the frames (0-based) of one of the two views that are scored.

        Args:
            n_frames: frames of the clip.
            view: 0 for the start of the clip, 1 for its end.

        Returns:
            The first or the last `frames` of every stride-th frame of the clip. A short clip repeats the last
            of these, and has the same two views.

        Raises:
            ValueError: the clip has no frame, or there is no such view.
        """
        _check_frames(n_frames)
        if view not in (0, 1):
            raise ValueError(f"view {view}: choose 0 (start of the clip) or 1 (its end)")
        grid = list(range(0, n_frames, self.stride))
        grid = self._filled(grid, grid[-1])
        return grid[-self.frames :] if view else grid[: self.frames]

    def audio_span(self, first: int, n_frames: int, n_samples: int) -> tuple[int, int]:
        """Returns the span of sound from frame `first` to frame `first + window`, or to the last frame.

        The positions are shares of the clip: frame 0 is the start of the file and the last frame its end.

        Args:
            first: first frame of the sample, in training and in a view.
            n_frames: frames of the clip.
            n_samples: samples in the file.

        Returns:
            (first sample, one past the last). The whole file, if the span has 1,024 samples or fewer and the
            file is shorter than 2.56 s.

        Raises:
            UnusableSpanError: 1,024 samples or fewer in the file, or in a span of a longer file.
        """
        if n_samples < FEWEST_SAMPLES:
            raise UnusableSpanError(f"{n_samples} samples of sound: a clip needs {FEWEST_SAMPLES}")
        last = n_frames - 1
        # Shares of the file are rounded to double precision first. Another order is one sample off at times.
        begin, end = (
            math.floor(n_samples * (frame / last)) if last else 0
            for frame in (first, min(first + self.window, last))
        )
        if end - begin >= FEWEST_SAMPLES:
            return begin, end
        if n_samples < WHOLE_FILE_BELOW:
            return 0, n_samples
        raise UnusableSpanError(
            f"{end - begin} samples of sound from frame {first} of {n_frames}, of {n_samples} in the file: "
            f"a sample needs {FEWEST_SAMPLES}"
        )

    def longest_span(self, n_frames: int, n_samples: int) -> int:
        """Returns a bound on the samples in any span of a clip, for the size of arrays.

        Args:
            n_frames: frames of the clip.
            n_samples: samples in the file.

        Returns:
            At most `n_samples`; at most 2 more than the longest span, except where a file below 2.56 s may be
            used whole.
        """
        last = n_frames - 1
        # The last view ends up to stride - 1 frames before the end of the clip, and its span at the end.
        shortest = math.floor(n_samples * ((self.frames - 1) * self.stride / max(last, 1))) - 1
        may_be_whole = n_samples < WHOLE_FILE_BELOW and shortest < FEWEST_SAMPLES
        if last <= self.window or may_be_whole:
            return n_samples
        return math.ceil(n_samples * (self.window / last)) + 1

    def _filled(self, indices: list[int], index: int) -> list[int]:
        """The indices, and `index` after them until there are `frames`."""
        return indices + [index] * (self.frames - len(indices))


def _check_frames(n_frames: int) -> None:
    if n_frames < 1:
        raise ValueError("the clip has no frame: leave it out of the set")
