"""Looks whether the frames of a set are pictures of faces, as the model needs them.

A model that was trained on faces learns little from whole scenes, and no number says why. So some frames are
looked at as they are stored.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import simplejpeg
from array_record.python.array_record_module import ArrayRecordReader
from etils import epath
from PIL import Image

from data_pipeline.format import labelled_record, records
from data_pipeline.format.labelled_set import LabelledSet, LabelledShard
from data_pipeline.format.prepared_set import PreparedSet, Shard
from data_pipeline.format.records import STRIDE
from data_pipeline.media.faces import detect

CLIPS = 20
"""Number of clips that are looked at."""
LEAST_HEIGHT = 1 / 3
"""Share of the frame's height that a face fills at least."""
_FARTHEST = 1 / 4
"""Distance of the face's centre from the frame's at most, as a share of the frame's sides."""
_LEAST_SHARE = 0.5
"""Share of the frames that show such a face, at least."""
_SIDE = 160
"""Pixels to which smaller frames are enlarged, because faces of a few pixels are not found."""


@dataclass(frozen=True)
class FaceLook:
    """What was found.

    Attributes:
        n_frames: number of frames that were looked at, one a clip.
        n_faces: in how many of them a face is large enough and near the middle.
        n_small: in how many others there is a face that is too small or far from the middle.
    """

    n_frames: int
    n_faces: int
    n_small: int


def look(root: epath.PathLike, about: PreparedSet | LabelledSet) -> FaceLook:
    """Looks at the middle frames of some clips, spread over a set.

    Args:
        root: directory of the set.
        about: its description.

    Raises:
        ImportError: the extra ``face`` is not installed.
    """
    n_frames, kinds = 0, []
    for jpeg in _middle_frames(epath.Path(root), about):
        try:
            picture = simplejpeg.decode_jpeg(jpeg)
        except ValueError:  # `inspection.verify` reports it
            continue
        n_frames += 1
        kinds.append(_kind(picture))
    return FaceLook(n_frames, kinds.count("face"), kinds.count("small"))


def warning(found: FaceLook) -> str | None:
    """Describes, in one line, a set whose frames are no pictures of faces; None for any other set."""
    if found.n_faces >= _LEAST_SHARE * found.n_frames:
        return None
    small = f" ({found.n_small} show a small one or one at the edge)" if found.n_small else ""
    return (
        f"warning: {found.n_faces} of {found.n_frames} clips that were looked at show a face in the middle "
        f"that fills a third of the frame's height or more{small}, and the model needs that of all clips: "
        "prepare them with --crop=face and a new --output"
    )


def _kind(picture: np.ndarray) -> str:
    """Returns "face", "small" for one that is too small or off the middle, or "none"."""
    height, width = picture.shape[:2]
    if min(height, width) < _SIDE:
        scale = _SIDE / min(height, width)
        height, width = round(height * scale), round(width * scale)
        picture = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))
    faces = detect(picture)
    for left, top, right, bottom in (face.box for face in faces):
        off = max(abs((left + right) / 2 / width - 0.5), abs((top + bottom) / 2 / height - 0.5))
        if bottom - top >= LEAST_HEIGHT * height and off <= _FARTHEST:
            return "face"
    return "small" if faces else "none"


def _middle_frames(root: epath.Path, about: PreparedSet | LabelledSet) -> Iterator[bytes]:
    """Yields the JPEG of the middle frame of some clips; clips that cannot be read are left out."""
    places = [(shard, clip) for shard in about.shards for clip in range(shard.n_clips)]
    chosen = np.unique(np.linspace(0, len(places) - 1, min(CLIPS, len(places))).astype(int))
    for shard, clip in (places[number] for number in chosen):
        try:
            jpeg = _middle_frame(root, shard, clip)
        except Exception:  # ArrayRecord raises exceptions of many kinds; `inspection.verify` reports them
            continue
        yield jpeg


def _middle_frame(root: epath.Path, shard: Shard | LabelledShard, clip: int) -> bytes:
    if isinstance(shard, Shard):
        picture = records.parse_video(_record(root / shard.video, STRIDE * clip))
        return bytes(picture.jpeg(picture.n_stored // 2))
    labelled = labelled_record.parse_clip(_record(root / shard.path, clip))
    return bytes(labelled.jpeg(labelled.n_frames // 2))


def _record(path: epath.Path, number: int) -> bytes:
    reader = ArrayRecordReader(str(path), "readahead_buffer_size:0,max_parallelism:0")
    try:
        return reader.read([number])[0]
    finally:
        reader.close()
