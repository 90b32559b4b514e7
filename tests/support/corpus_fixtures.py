"""A corpus of tiny clips in VoxCeleb2's layout, and preparing it."""

from os import PathLike
from pathlib import Path

import numpy as np
from etils import epath

from data_pipeline.corpora.layouts import Corpus
from data_pipeline.media.decode import Crop
from data_pipeline.media.encode import write_m4a, write_mp4
from data_pipeline.preparation import builder
from data_pipeline.preparation.plan import Options
from data_pipeline.preparation.shard_writer import write_shard

# TFDS reads its metadata through a call that protobuf has deprecated.
PROTOBUF_IN_TFDS = r"ignore:label\(\) is deprecated:DeprecationWarning"

CROP = Crop(top=0, left=8, height=32, width=32)
OPTIONS = Options(crop=CROP)


def tone(seconds):
    return (0.3 * np.sin(0.2 * np.arange(round(seconds * 16_000)))).astype(np.float32)


def picture(n_frames, seed=0):
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), np.uint8)
    still = blocks.repeat(8, axis=0).repeat(8, axis=1)
    return np.stack([np.roll(still, frame, axis=1) for frame in range(n_frames)])


def write_corpus(root: Path, n_clips: int = 9) -> list[str]:
    """Write clips of 20, 21, ... frames of 32 × 48 pixels; return their names, sorted."""
    names = [f"id{i % 2:05d}/video{i % 3}/{i:05d}" for i in range(n_clips)]
    for i, name in enumerate(names):
        video, audio = files_of(root, name)
        for path in (video, audio):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_mp4(video, picture(20 + i, seed=i))
        write_m4a(audio, tone((20 + i) / 25))
    return sorted(names)


def files_of(root: Path, name: str, split: str = "dev") -> tuple[Path, Path]:
    return root / split / "mp4" / f"{name}.mp4", root / split / "aac" / f"{name}.m4a"


def here(specs, plan):
    """Write the shards in this process."""
    for spec in specs:
        write_shard(spec)


def prepare(root: Path, output: Path, options: Options = OPTIONS, run=here):
    return builder.prepare(corpus(root), output, options, run)


def corpus(*roots: PathLike, **options) -> Corpus:
    return Corpus(tuple(map(epath.Path, roots)), **options)


def tree(root: PathLike) -> dict[str, bytes]:
    """The contents of every file under a directory."""
    files = [path for path in Path(root).rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}
