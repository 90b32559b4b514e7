"""RandAugment of a clip's frames on the host, by Pillow (as in the published fine-tuning code).

One sequence of operations, with one magnitude and one sign each, changes all frames of a clip alike. What an
operation reads from a picture, such as its histogram or its mean, it reads from each frame. The operations
need 8-bit pixels, so they come before any scaling. A clip of 16 frames of 160 × 160 takes about 17 ms of
processor time on average, most of it for the five geometric operations (15 to 20 ms each).
"""

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

LARGEST_MAGNITUDE = 10.0
FILL = (128, 128, 128)
"""Colour of what a geometric operation brings in from outside the frame."""


class Operation(NamedTuple):
    """One operation on all frames of a clip.

    Attributes:
        name: a name in `OPERATIONS`.
        magnitude: strength, from 0 to 10.
        sign: 1 or -1; the direction of an operation that has two.
    """

    name: str
    magnitude: float
    sign: int = 1


def draw(
    key: int, count: int = 4, probability: float = 0.5, magnitude: float = 7.0, deviation: float = 0.5
) -> tuple[Operation, ...]:
    """Draws the operations of one clip.

    Args:
        key: of the random stream, from 0 to 2^128 - 1. The same key gives the same operations everywhere.
        count: number of draws, with replacement.
        probability: of each drawn operation to be applied.
        magnitude: mean of the normal distribution of a magnitude.
        deviation: its standard deviation. Magnitudes beyond 0 and 10 are set to these.

    Returns:
        The operations to apply, in order; at most `count`.
    """
    # The bits name one of 2^52 equal parts of (0, 1). Its middle is never 0 or 1: there the normal is
    # infinite.
    bits = np.random.Philox(key=key).random_raw((count, 4)) >> np.uint64(12)
    uniform = ((bits + 0.5) / 2**52).tolist()
    names = tuple(OPERATIONS)
    standard = NormalDist()
    return tuple(
        Operation(
            names[int(which * len(names))],
            min(max(magnitude + deviation * standard.inv_cdf(strength), 0.0), LARGEST_MAGNITUDE),
            1 if sign < 0.5 else -1,
        )
        for which, applied, strength, sign in uniform
        if applied < probability
    )


def apply(frames: np.ndarray, operations: Sequence[Operation]) -> np.ndarray:
    """Applies operations to every frame of a clip.

    Args:
        frames: uint8[T, H, W, 3], RGB.
        operations: in this order.

    Returns:
        uint8[T, H, W, 3], a new array; `frames` itself if there is no operation.

    Raises:
        ValueError: the frames are not uint8[T, H, W, 3], or an operation is not in `OPERATIONS`.
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        raise ValueError(
            f"frames are {frames.dtype}{list(frames.shape)}; RandAugment takes uint8[T, H, W, 3]"
        )
    if not operations:
        return frames
    images = [Image.fromarray(frame) for frame in frames]
    for name, magnitude, sign in operations:
        if name not in OPERATIONS:
            raise ValueError(f"unknown operation {name!r}; choose from {', '.join(OPERATIONS)}")
        operation = OPERATIONS[name]
        images = [operation(image, magnitude, sign) for image in images]
    return np.stack([np.asarray(image) for image in images])


def _auto_contrast(image: Image.Image, magnitude: float, sign: int) -> Image.Image:
    return ImageOps.autocontrast(image)


def _equalize(image: Image.Image, magnitude: float, sign: int) -> Image.Image:
    return ImageOps.equalize(image)


def _invert(image: Image.Image, magnitude: float, sign: int) -> Image.Image:
    return ImageOps.invert(image)


def _rotate(image: Image.Image, magnitude: float, sign: int) -> Image.Image:
    return image.rotate(sign * 3 * magnitude, Image.Resampling.BICUBIC, fillcolor=FILL)


def _posterize(image: Image.Image, magnitude: float, sign: int) -> Image.Image:
    return ImageOps.posterize(image, 4 - math.floor(0.4 * magnitude))


def _solarize(image: Image.Image, magnitude: float, sign: int) -> Image.Image:
    return ImageOps.solarize(image, 256 - math.floor(25.6 * magnitude))


def _solarize_add(image: Image.Image, magnitude: float, sign: int) -> Image.Image:
    added = math.floor(11 * magnitude)
    table = [min(level + added, 255) if level < 128 else level for level in range(256)]
    return image.point(table * len(image.getbands()))


def _enhanced(kind: Callable[[Image.Image], Any]) -> Callable[[Image.Image, float, int], Image.Image]:
    """An operation that blends the picture with a duller one, or away from it."""
    return lambda image, magnitude, sign: kind(image).enhance(1 + sign * 0.09 * magnitude)


def _moved(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    """The picture whose pixel (x, y) is the pixel (ax + by + c, dx + ey + f) of the given one."""
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor=FILL
    )


def _shear_x(image: Image.Image, magnitude: float, sign: int) -> Image.Image:
    return _moved(image, (1, sign * 0.03 * magnitude, 0, 0, 1, 0))


def _shear_y(image: Image.Image, magnitude: float, sign: int) -> Image.Image:
    return _moved(image, (1, 0, 0, sign * 0.03 * magnitude, 1, 0))


def _translate_x(image: Image.Image, magnitude: float, sign: int) -> Image.Image:
    return _moved(image, (1, 0, sign * 0.045 * magnitude * image.width, 0, 1, 0))


def _translate_y(image: Image.Image, magnitude: float, sign: int) -> Image.Image:
    return _moved(image, (1, 0, 0, 0, 1, sign * 0.045 * magnitude * image.height))


OPERATIONS: dict[str, Callable[[Image.Image, float, int], Image.Image]] = {
    "AutoContrast": _auto_contrast,
    "Equalize": _equalize,
    "Invert": _invert,
    "Rotate": _rotate,
    "Posterize": _posterize,
    "Solarize": _solarize,
    "SolarizeAdd": _solarize_add,
    "Color": _enhanced(ImageEnhance.Color),
    "Contrast": _enhanced(ImageEnhance.Contrast),
    "Brightness": _enhanced(ImageEnhance.Brightness),
    "Sharpness": _enhanced(ImageEnhance.Sharpness),
    "ShearX": _shear_x,
    "ShearY": _shear_y,
    "TranslateX": _translate_x,
    "TranslateY": _translate_y,
}
"""Each operation takes a frame, a magnitude and a sign; some need no sign, or no magnitude."""
