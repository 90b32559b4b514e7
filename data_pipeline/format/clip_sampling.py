"""Which frames and which sound of a clip make a sample (paper section 4.2, as in the published code).

Pure functions of numbers. The only random input is `draw`, a uniform number from the caller.
"""

import dataclasses
import math

FEWEST_SAMPLES = 1_025
"""A clip or a sample with less sound is unusable. The published code refuses 1,024 samples and fewer."""


@dataclasses.dataclass(frozen=True)
class ClipSampling:
    """How a sample is cut out of a clip.

    Attributes:
        frames: frames in a sample.
        stride: distance between two frames of a sample, in frames of the clip.

    Raises:
        ValueError: a number is below 1.
    """

    frames: int = 16
    stride: int = 4

    def __post_init__(self) -> None:
        if self.frames < 1 or self.stride < 1:
            raise ValueError(f"frames {self.frames} and stride {self.stride} must both be at least 1")

    @property
    def window(self) -> int:
        """Number of frames of the clip that a sample spans. A shorter clip repeats its last frame."""
        return self.frames * self.stride

    def start(self, draw: float, n_frames: int) -> int:
        """Returns the first frame of the sample.

        Args:
            draw: uniform in [0, 1).
            n_frames: frames of the clip.

        Returns:
            A frame from 0 to n_frames - window, each with the same probability; 0 if the clip is shorter than
            the window.
        """
        return int(draw * (n_frames - self.window + 1)) if n_frames >= self.window else 0

    def frame_indices(self, start: int, n_frames: int) -> list[int]:
        """Returns the frames of the sample (0-based).

        In a clip shorter than the window, the index advances up to frame n_frames - 2 and then repeats. For
        61 frames the indices end in …, 52, 56, 56.
        """
        indices = [start]
        while len(indices) < self.frames:
            following = indices[-1] + self.stride
            fits = n_frames >= self.window or following <= n_frames - 2
            indices.append(following if fits else indices[-1])
        return indices

    def audio_span(
        self, first: int, last: int, n_frames: int, fps: float, sample_rate: int
    ) -> tuple[int, int]:
        """Returns the span of sound from the start of the first frame to the end of frame `last + stride`.

        Args:
            first: the sample's first frame.
            last: its last frame.
            n_frames: frames of the clip.
            fps: frames a second.
            sample_rate: samples a second.

        Returns:
            (first sample, number of samples); the sound may end earlier.
        """
        end = min(last + self.stride, n_frames - 1) + 1
        # Multiply before dividing, so that whole numbers are exact: 16,000 · 3 / 25 is 1,920, not 1,919.99…
        return math.floor(sample_rate * first / fps), math.floor(sample_rate * (end - first) / fps)

    def audio_samples(self, fps: float, sample_rate: int) -> int:
        """Returns the longest `audio_span`: 41,600 samples for 16 frames at stride 4, 25 fps and 16 kHz."""
        return math.floor(sample_rate * (self.window + 1) / fps)
