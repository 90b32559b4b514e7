"""What changes the picture between a face and its file: a covered part, resolution, exposure and noise."""

from functools import lru_cache

import numpy as np

from data_pipeline.synthetic.difficulty import Facts
from data_pipeline.synthetic.portrait import CENTRE, SIDE, Portrait

COVER_HALF = {"eyes": (62, 15), "mouth": (34, 19)}  # half width and half height of a cover, pixels
COVER_DRIFT = 4.0  # standard deviation of a cover's place in a clip, pixels
STRIP = SIDE * SIDE * 3 * 2  # samples of noise, of which each frame uses a part


def film(frames: np.ndarray, facts: Facts, portrait: Portrait, rng: np.random.Generator) -> np.ndarray:
    """Takes the pictures of a clip through the disturbances of its facts.

    Args:
        frames: uint8 RGB [T, 224, 224, 3].
        facts: which part is covered; resolution, exposure and noise.
        portrait: where eyes and mouth are.
        rng: draws the cover and the part of the noise that each frame gets.

    Returns:
        uint8 RGB [T, 224, 224, 3].
    """
    if facts.covered:
        frames = _cover(frames, facts.covered, portrait, rng)
    picture = _coarser(frames, facts.coarseness)
    picture *= np.float32(2.0**facts.exposure)
    strip = _noise_strip()
    size = frames[0].size
    for frame in picture:
        start = int(rng.integers(len(strip) - size))
        frame += np.float32(facts.camera_noise) * strip[start : start + size].reshape(frame.shape)
    return np.clip(np.rint(picture, out=picture), 0, 255, out=picture).astype(np.uint8)


def _coarser(frames: np.ndarray, pixels: int) -> np.ndarray:
    """Averages squares of pixels, as in a small video that was enlarged: float32 of the shape of `frames`."""
    count, side = len(frames), SIDE // pixels
    if pixels == 1:
        return frames.astype(np.float32)
    squares = frames.reshape(count, side, pixels, side, pixels, 3).mean(axis=(2, 4), dtype=np.float32)
    return squares.repeat(pixels, axis=1).repeat(pixels, axis=2)


def _cover(frames: np.ndarray, part: str, portrait: Portrait, rng: np.random.Generator) -> np.ndarray:
    """Covers a part of the face with a plain rectangle that stays in place, such as a microphone."""
    width, height = COVER_HALF[part]
    row = portrait.mouth_y if part == "mouth" else (portrait.eye_y + portrait.brow_y) / 2
    x, y = CENTRE[0] + rng.normal(0, COVER_DRIFT), row + rng.normal(0, COVER_DRIFT)
    top, left = (max(0, round(value)) for value in (y - height, x - width))
    covered = frames.copy()
    covered[:, top : round(y + height), left : round(x + width)] = rng.integers(30, 210, 3, dtype=np.uint8)
    return covered


@lru_cache(maxsize=1)
def _noise_strip() -> np.ndarray:
    """Standard normal noise, float32 [STRIP], the same in every process; frames use different parts."""
    return np.random.default_rng(1).standard_normal(STRIP, dtype=np.float32)
