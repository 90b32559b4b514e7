"""What the number of files costs when a corpus is planned: time and memory, for up to a million clips.

    python -m benchmarks.many_files [--clips=10000,100000,1000000] [--json=FILE]

A tree of hard links to a few real clips, ten in each directory, is planned in each layout as `launch.prepare`
does it, in a process of its own:

* find: lists the tree, or reads the list and looks up its files;
* plan: puts the clips in order and writes the lists of the shards;
* again: both once more, as after an interruption;
* cpu: processor time of all three;
* peak memory of the process.

No clip is decoded but the few whose size decides the number of shards.
"""

import json
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from absl import flags
from etils import epath

from benchmarks.many_clips import peak_memory
from data_pipeline.corpora.layouts import FOLDER, LIST, VOXCELEB2, Corpus
from data_pipeline.media.decode import Crop
from data_pipeline.media.encode import write_m4a, write_mp4
from data_pipeline.preparation.plan import Options, ensure_plan
from launch import command

FLAGS = flags.FLAGS

CLIPS_A_DIRECTORY = 10
LINKS_A_FILE = 30_000
"""Hard links to one file; some file systems allow 65,000."""
SIDE, SECONDS, FPS, RATE = 32, 1.0, 25, 16_000
LAYOUTS = (VOXCELEB2, FOLDER, LIST)


def define_flags() -> None:
    """Declare the flags; not at import, because other commands have flags of the same names."""
    flags.DEFINE_list("clips", ["10000", "100000", "1000000"], "Numbers of clips of the trees.")
    flags.DEFINE_string("json", None, "File to write the figures to.")


def make_tree(root: Path, clips: int) -> None:
    """Make a tree of VoxCeleb2 of hard links, and beside it ``clips.csv``, a list of its clips.

    Args:
        root: new directory.
        clips: number of clips.
    """
    rows = ["video,audio"]
    for number in range(clips):
        place = number // CLIPS_A_DIRECTORY
        name = f"id{place % 6_000:05d}/v{place:07d}/{number:08d}"
        if number % LINKS_A_FILE == 0:
            real = [_make_file(root / "real", number, suffix) for suffix in ("mp4", "m4a")]
        files = [f"dev/mp4/{name}.mp4", f"dev/aac/{name}.m4a"]
        for path, target in zip(files, real, strict=True):
            if number % CLIPS_A_DIRECTORY == 0:
                (root / path).parent.mkdir(parents=True, exist_ok=True)
            os.link(target, root / path)
        rows.append(",".join(files))
    (root / "clips.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def _make_file(directory: Path, number: int, suffix: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{number}.{suffix}"
    if suffix == "mp4":
        frames = round(SECONDS * FPS)
        write_mp4(path, np.full((frames, SIDE, SIDE, 3), 100, np.uint8))
    else:
        write_m4a(path, np.sin(np.arange(round(SECONDS * RATE)) / 10).astype(np.float32))
    return path


def measure(root: Path, layout: str, output: Path) -> dict[str, float]:
    """Plan a tree twice; call it in a new process.

    Args:
        root: from `make_tree`.
        layout: in which it is read.
        output: new directory of the prepared set.

    Returns:
        Seconds and 10^6 bytes.
    """
    given = {VOXCELEB2: root, FOLDER: root / "dev", LIST: root / "clips.csv"}[layout]
    corpus = Corpus((epath.Path(given),), layout)
    options = Options(crop=Crop(0, 0, SIDE, SIDE))
    begun, begun_cpu = time.perf_counter(), time.process_time()
    corpus.find(layout, "dev")
    found = time.perf_counter()
    ensure_plan(corpus, epath.Path(output), options)
    planned = time.perf_counter()
    ensure_plan(corpus, epath.Path(output), options)
    again = time.perf_counter()
    return {
        "find_s": found - begun,
        "plan_s": (planned - found) - (found - begun),
        "again_s": again - planned,
        "cpu_s": time.process_time() - begun_cpu,
        "peak_mb": peak_memory() / 1e6,
    }


def main(argv: list[str]) -> int:
    """Make the trees, measure, print and write the figures; return the exit code."""
    results: dict[str, dict[str, float]] = {}
    new_process = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as name,
        ProcessPoolExecutor(1, new_process, max_tasks_per_child=1) as pool,
    ):
        for clips in map(int, FLAGS.clips):
            root = Path(name) / str(clips)
            make_tree(root, clips)
            for layout in LAYOUTS:
                output = Path(name) / f"{layout}-{clips}"
                results[f"{layout}, {clips} clips"] = pool.submit(measure, root, layout, output).result()
    for part, figures in results.items():
        print(f"{part:26}", *(f"{figure} {value:8.2f} " for figure, value in figures.items()))
    if FLAGS.json:
        Path(FLAGS.json).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    command.run("many_files", define_flags, main)
