"""Stretches whole frames to a square, as fine-tuning sees them, and stores them as JPEG."""

import dataclasses

import numpy as np
import simplejpeg
from PIL import Image

from data_pipeline.media.kept_square import KeptSquare

QUALITY = 95  # with full chroma, because faces are small


@dataclasses.dataclass(frozen=True)
class Stretch(KeptSquare):
    """A frame is stretched to a square; its aspect is ignored (published code).

    Attributes:
        side: of the square, in pixels.

    Raises:
        ValueError: the side is not 16 to 1,024.
    """

    def __post_init__(self) -> None:
        if not 16 <= self.side <= 1_024:
            raise ValueError(f"side {self.side} must be from 16 to 1,024 pixels")

    def jpeg(self, picture: np.ndarray) -> bytes:
        """Returns the JPEG of a stretched frame.

        Args:
            picture: uint8[H, W, 3], RGB.
        """
        return self.jpeg_of(Image.fromarray(picture))

    def jpeg_of(self, image: Image.Image) -> bytes:
        """Returns the JPEG of a stretched image: bilinear, with antialiasing, as Pillow does it."""
        if image.size != (self.side, self.side):
            image = image.resize((self.side, self.side), Image.Resampling.BILINEAR)
        return simplejpeg.encode_jpeg(np.ascontiguousarray(image), QUALITY, "RGB", "444")
