"""Tiny labelled data sets in the layouts of their downloads, and preparing them."""

from pathlib import Path

import numpy as np
from PIL import Image

from data_pipeline.corpora import labelled
from data_pipeline.media.encode import write_mp4, write_wav
from data_pipeline.preparation.labelled_builder import prepare_labelled
from data_pipeline.preparation.labelled_shards import write_labelled_shard
from tests.support.corpus_fixtures import picture, tone

SIDE = 32


def write_frames(folder: Path, n_frames: int, ending: str = ".jpg") -> None:
    folder.mkdir(parents=True)
    for number, pixels in enumerate(picture(n_frames), start=1):
        Image.fromarray(pixels).save(folder / f"frame_{number:06d}{ending}")


def write_video(path: Path, n_frames: int, samples: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mp4(path, picture(n_frames), samples=samples)


def write_sound(path: Path, seconds: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_wav(path, tone(seconds))


def write_made_up(root: Path, n_clips: int = 8, n_speakers: int = 4) -> list[str]:
    """Write a made-up corpus: clips of 20, 21, … frames; the first clip's sound is a track of its video."""
    emotions = ["ANG", "DIS", "FEA", "HAP", "NEU", "SAD"]
    names = [f"clip{number:03d}" for number in range(n_clips)]
    for number, name in enumerate(names):
        sound = tone((20 + number) / 25)
        write_video(root / "video" / f"{name}.mp4", 20 + number, None if number else sound)
        if number:
            write_sound(root / "sound" / f"{name}.wav", (20 + number) / 25)
    rows = [
        f"{name},speaker{number % n_speakers},{emotions[number % 6]},0.5" for number, name in enumerate(names)
    ]
    (root / "labels.csv").write_text("\n".join(["clip,speaker,emotion,intensity", *rows]) + "\n")
    return names


def here(specs) -> None:
    """Write the shards in this process."""
    for spec in specs:
        write_labelled_shard(spec)


def prepare(dataset: str, root: Path, output: Path, run=here, side: int = SIDE, **options):
    return prepare_labelled(dataset, labelled.find(dataset, root, **options), output, side, run)
