"""Writes the clips of a planned corpus as files, with a pool of processes.

First a corpus is planned (which clip has which name), then every missing clip is written. So the files do not
depend on the number of processes, and the same call completes a corpus after an interruption.
"""

import json
from collections.abc import Iterator
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_pipeline.common import atomic_files
from data_pipeline.common.cores import usable_cores
from data_pipeline.common.worker_processes import submit_all, worker_pool
from data_pipeline.media.encode import write_m4a, write_mp4, write_wav
from data_pipeline.synthetic.clip import FPS, ClipSpec, make_clip

NOTE = "synthetic_corpus.json"  # marks the directory of a corpus, and says how it was asked for
FACE = np.s_[:, 0:160, 32:192]  # where VoxCeleb2's crop is, so that faces have the same size in all corpora


class CorpusError(ValueError):
    """A corpus cannot be written there or so; the message is one line that says what to change."""


@dataclass(frozen=True)
class PlannedClip:
    """A clip and its files.

    Attributes:
        spec: the clip.
        video: path of the video file, relative to the corpus.
        sound: path of the sound file, relative to the corpus.
        face_only: whether the video holds the face alone, 160 × 160 pixels, as data sets of faces do.
    """

    spec: ClipSpec
    video: str
    sound: str
    face_only: bool = False


def write_planned(
    root: Path, planned: list[PlannedClip], wish: dict, workers: int | None, progress: bool
) -> None:
    """Writes, or completes, planned clips; `wish` says in the directory's note how they were asked for."""
    _claim(root, wish)
    missing = [clip for clip in planned if not _is_there(root, clip)]
    tasks = list(_tasks(missing))
    workers = min(workers or usable_cores(), max(1, len(tasks)))
    with tqdm(
        total=len(planned), initial=len(planned) - len(missing), unit="clip", disable=not progress
    ) as bar:
        if workers == 1:
            for task in tasks:
                for clip in task:
                    _write_clips(root, [clip])
                    bar.update()
            return
        with worker_pool(workers) as pool:
            try:
                for future in as_completed(submit_all(pool, partial(_write_clips, root), tasks)):
                    bar.update(future.result())
            except BrokenProcessPool:
                raise CorpusError(
                    f"{root}: a worker process died, perhaps because memory ran out: run the same again with "
                    "fewer workers"
                ) from None
            finally:
                pool.shutdown(cancel_futures=True)


def _claim(root: Path, wish: dict) -> None:
    """Marks the directory with a note of what is asked for, or refuses it."""
    note = root / NOTE
    if note.exists():
        try:
            there = json.loads(note.read_text(encoding="utf-8"))
        except ValueError as error:
            raise CorpusError(f"{note} is damaged ({error}): give another directory") from error
        if there != wish:
            raise CorpusError(
                f"{root} holds another synthetic corpus ({there}): give another directory, or the same values"
            )
        return
    temporary = note.with_suffix(".part")  # the only file in the directory if a first run was killed early
    if root.exists() and (not root.is_dir() or any(path != temporary for path in root.iterdir())):
        raise CorpusError(f"{root} is not empty and not a synthetic corpus: give a new or empty directory")
    root.mkdir(parents=True, exist_ok=True)
    temporary.write_text(json.dumps(wish) + "\n", encoding="utf-8")
    temporary.replace(note)


def _is_there(root: Path, clip: PlannedClip) -> bool:
    return (root / clip.video).exists() and (root / clip.sound).exists()


def _tasks(planned: list[PlannedClip]) -> Iterator[list[PlannedClip]]:
    """Groups the clips of a recording, which share a portrait, into tasks of six clips at most."""
    key = lambda clip: (clip.spec.speaker, clip.spec.recording)  # noqa: E731
    for _, group in groupby(sorted(planned, key=key), key):
        clips = list(group)
        yield from (clips[start : start + 6] for start in range(0, len(clips), 6))


def _write_clips(root: Path, clips: list[PlannedClip]) -> int:
    """Writes clips, each file under a temporary name first, so that a final name means a complete file."""
    for clip in clips:
        frames, samples = make_clip(clip.spec)
        if clip.face_only:
            frames = frames[FACE]
        for name in (clip.sound, clip.video):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_files.replacing(path, f".part-{path.name}") as partial:
                if path.suffix == ".m4a":
                    write_m4a(partial, samples)
                elif path.suffix == ".wav":
                    write_wav(partial, samples)
                else:
                    write_mp4(partial, frames, FPS, samples=samples if path.suffix == ".flv" else None)
    return len(clips)
