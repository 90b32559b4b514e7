"""Links the faces of a video's frames to tracks: where each face is in every frame.

Faces are detected in some frames only. As public tools for talking faces do, a face is taken for the same one
as before where the boxes overlap, short gaps are bridged, and the boxes are interpolated and smoothed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import median_filter, uniform_filter1d
from scipy.optimize import linear_sum_assignment

from data_pipeline.media.faces import Face

EVERY = 5
"""Faces are looked for in every fifth frame: 5 times a second."""
LEAST_OVERLAP = 0.3
"""Intersection over union of the boxes of one face in two frames that are looked at, at least."""
LONGEST_GAP = 25
"""Frames for which a face may not be found without ending its track: 1 s."""
_SMOOTHED = 13
"""Frames whose boxes are averaged: 0.5 s."""


@dataclass(frozen=True)
class Track:
    """A face in a stretch of frames.

    Attributes:
        begin: number of its first frame.
        boxes: float64 [n, 4], its box in each frame from `begin` on: left, top, right, bottom in pixels.
        confidence: of the detector, mean.
    """

    begin: int
    boxes: np.ndarray
    confidence: float

    @property
    def end(self) -> int:
        """The number after its last frame."""
        return self.begin + len(self.boxes)

    @property
    def presence(self) -> float:
        """How much is seen of the face: its height in pixels, summed over its frames."""
        return float((self.boxes[:, 3] - self.boxes[:, 1]).sum())

    def box(self, number: int) -> np.ndarray:
        """Returns the box, float64 [4], in a frame; before the first and after the last it stays in place."""
        return self.boxes[min(max(number - self.begin, 0), len(self.boxes) - 1)]


class _Sightings:
    """The faces that were linked so far to one track."""

    def __init__(self, number: int, face: Face) -> None:
        self.numbers, self.faces = [number], [face]

    def add(self, number: int, face: Face) -> None:
        self.numbers.append(number)
        self.faces.append(face)

    def track(self) -> Track:
        """Fills the frames between the sightings, and smooths: one box that is far out does not count."""
        seen = np.stack([face.box for face in self.faces])
        seen = median_filter(seen, size=(3, 1), mode="nearest")
        numbers = np.arange(self.numbers[0], self.numbers[-1] + 1)
        boxes = np.stack([np.interp(numbers, self.numbers, edge) for edge in seen.T], axis=1)
        return Track(
            self.numbers[0], _averaged(boxes), float(np.mean([face.confidence for face in self.faces]))
        )


def link(looks: Iterable[tuple[int, Sequence[Face]]]) -> list[Track]:
    """Links the faces in some frames of a video to tracks.

    Args:
        looks: number of a frame, and the faces in it, in ascending order; also of frames without a face.

    Returns:
        The tracks; the one of which most is seen (`Track.presence`) comes first.
    """
    open_: list[_Sightings] = []
    ended: list[_Sightings] = []
    for number, faces in looks:
        gone = [track for track in open_ if number - track.numbers[-1] > LONGEST_GAP]
        ended += gone
        open_ = [track for track in open_ if track not in gone]
        pairs = _pairs(open_, faces)
        for place, face in pairs.items():
            open_[place].add(number, faces[face])
        open_ += [_Sightings(number, face) for index, face in enumerate(faces) if index not in pairs.values()]
    tracks = [track.track() for track in (*ended, *open_)]
    return sorted(tracks, key=lambda track: -track.presence)


def _averaged(boxes: np.ndarray) -> np.ndarray:
    """Returns the moving average of boxes [n, 4]; a steady movement goes on as it is, up to both ends."""
    half = _SMOOTHED // 2
    longer = np.pad(boxes, ((half, half), (0, 0)), mode="reflect", reflect_type="odd")
    return uniform_filter1d(longer, _SMOOTHED, axis=0)[half : half + len(boxes)]


def _pairs(tracks: Sequence[_Sightings], faces: Sequence[Face]) -> dict[int, int]:
    """Returns track → face of those that belong together, with the largest sum of overlaps."""
    if not tracks or not faces:
        return {}
    overlaps = np.array([[overlap(track.faces[-1].box, face.box) for face in faces] for track in tracks])
    overlaps[overlaps < LEAST_OVERLAP] = 0
    rows, columns = linear_sum_assignment(overlaps, maximize=True)
    return {int(row): int(column) for row, column in zip(rows, columns) if overlaps[row, column] > 0}


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Returns the intersection over union of two boxes [4], 0 to 1."""
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    common = np.prod(np.maximum(high - low, 0))
    union = np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - common
    return float(common / union) if union > 0 else 0.0
