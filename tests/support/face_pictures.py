"""A real face, for tests that find faces, and what skips them where nothing finds any."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_pipeline.media import faces

needs_detector = pytest.mark.skipif(
    not faces.installed(), reason="finds faces: pip install 'hicmae_jax[face]'"
)

FACE = np.array([85, 38, 137, 104])
"""Left, top, right and bottom edge of the face in `astronaut`."""


def astronaut():
    """uint8 RGB [240, 240, 3]."""
    with Image.open(Path(__file__).parent / "pictures/astronaut.jpg") as image:
        return np.asarray(image.convert("RGB"))


def film(n_frames, height=240, width=320, step=0, left=0):
    """The astronaut before grey, moved to the right by `step` pixels a frame: uint8 [T, H, W, 3]."""
    picture = astronaut()[:height]
    frames = np.full((n_frames, height, width, 3), 90, np.uint8)
    for number, frame in enumerate(frames):
        at = left + number * step
        shown = picture[:, : max(width - at, 0)]
        frame[: len(shown), at : at + shown.shape[1]] = shown
    return frames
