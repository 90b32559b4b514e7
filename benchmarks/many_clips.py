"""What the number of clips costs: time and memory of the input pipeline for sets of up to a million clips.

    python -m benchmarks.many_clips [--clips=1000,10000,100000,1000000] [--sets=10] [--order=10000000]
        [--json=FILE]

A few clips are prepared, and their records are repeated to fill one pair of shards. Each set consists of hard
links to this pair, so a million clips take no more of the disk than a thousand. Each set is measured in a
process of its own, with batches of 32 clips:

* construction: `Pipeline(…)`, which checks the set's description and its shards;
* first batch: from starting the pipeline, which makes the permutation of the first epoch, to the batch;
* the processor time of both, which depends less on what else the machine does;
* later batch: mean of the next 20, which must not depend on the number of clips;
* peak memory of the process, at the first batch and at the end.

With ``--sets``, a mixture of so many sets of the largest size is measured too, and what it costs more than
one such set. These sets have at most 384 shards, as preparation makes them: a mixture keeps all of them open.

For ``--order`` clips, only the order is measured: the time for the first clip, which makes the permutation of
an epoch, and for each of the next.
"""

import dataclasses
import itertools
import json
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from absl import flags
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from etils import epath

from data_pipeline.corpora.layouts import Corpus
from data_pipeline.format import prepared_set, records
from data_pipeline.format.prepared_set import PreparedSet, Shard
from data_pipeline.preparation.builder import prepare
from data_pipeline.preparation.plan import Options, Plan
from data_pipeline.preparation.shard_writer import ShardSpec, write_shard
from data_pipeline.reading.clip_order import ClipOrder
from data_pipeline.reading.pipeline import Pipeline, PipelineConfig
from data_pipeline.synthetic import write_voxceleb2
from launch import command

FLAGS = flags.FLAGS

REAL_CLIPS = 8
SECONDS = 3.0
CLIPS_A_SHARD = 500
MOST_SHARDS = 384  # that preparation makes of a set, unless it is told the size of a shard
BATCH = 32
LATER_BATCHES = 20
LATER_CLIPS = 10_000
KINDS = {prepared_set.VIDEO: records.STRIDE, prepared_set.AUDIO: 1}  # records a clip


def prepare_clips(directory: Path) -> Path:
    """Prepares a few clips of talking faces; returns the set's directory."""
    corpus, prepared = directory / "corpus", directory / "prepared"
    # One of the two speakers is in the test split.
    write_voxceleb2(corpus, clips=2 * REAL_CLIPS, speakers=2, seconds=(SECONDS, SECONDS))
    prepare(Corpus((epath.Path(corpus),)), epath.Path(prepared), Options(), _write_shards)
    return prepared


def _write_shards(specs: list[ShardSpec], plan: Plan) -> None:
    for spec in specs:
        write_shard(spec)


def fill_shards(prepared: Path, directory: Path, n_clips: int) -> dict[str, Path]:
    """Writes a pair of shards that holds the clips of a set again and again.

    Args:
        prepared: the set's directory.
        directory: for the two files.
        n_clips: number of clips in the pair.

    Returns:
        The files, by kind.
    """
    about, files = prepared_set.read_prepared_set(prepared), {}
    for kind, records_a_clip in KINDS.items():
        stored: list[bytes] = []
        for shard in about.shards:
            reader = ArrayRecordReader(str(prepared / getattr(shard, kind)))
            stored += reader.read_all()
            reader.close()
        files[kind] = directory / kind
        writer = ArrayRecordWriter(str(files[kind]), records.ARRAY_RECORD_OPTIONS)
        for record in itertools.islice(itertools.cycle(stored), n_clips * records_a_clip):
            writer.write(record)
        writer.close()
    return files


def link_set(prepared: Path, files: dict[str, Path], clips_a_shard: int, n_shards: int, root: Path) -> None:
    """Makes a set of hard links to one pair of shards.

    Args:
        prepared: directory of the set whose clips the pair holds.
        files: the pair, by kind.
        clips_a_shard: number of clips in it.
        n_shards: number of pairs of the new set.
        root: directory of the new set.
    """
    about: PreparedSet = prepared_set.read_prepared_set(prepared)
    shards = []
    for index in range(n_shards):
        links = {kind: prepared_set.shard_file(kind, about.split, index, n_shards) for kind in KINDS}
        for kind, link in links.items():
            (root / link).parent.mkdir(parents=True, exist_ok=True)
            os.link(files[kind], root / link)
        shards.append(Shard(n_clips=clips_a_shard, **links))
    described = dataclasses.replace(about, n_clips=n_shards * clips_a_shard, shards=tuple(shards))
    (root / prepared_set.DESCRIPTION).write_text(described.to_json(), encoding="utf-8")


def link_sets(prepared: Path, directory: Path, n_clips: int, sets: int) -> list[Path]:
    """Makes sets to mix, of about as many clips each and with as many shards as preparation makes.

    Args:
        prepared: directory of the set whose clips they hold.
        directory: of the new sets, and of the shards that they are links to.
        n_clips: number of clips in a set.
        sets: number of sets.

    Returns:
        The directories of the sets.
    """
    n_shards = min(-(-n_clips // CLIPS_A_SHARD), MOST_SHARDS)
    clips_a_shard = -(-n_clips // n_shards)
    directory.mkdir()
    files = fill_shards(prepared, directory, clips_a_shard)
    roots = [directory / f"set-{number}" for number in range(sets)]
    for root in roots:
        link_set(prepared, files, clips_a_shard, n_shards, root)
    return roots


def measure_sets(roots: list[Path]) -> dict[str, float]:
    """Measures the pipeline over one set or a mixture; call it in a new process."""
    begun, begun_cpu = time.perf_counter(), time.process_time()
    pipeline = Pipeline(PipelineConfig(data=tuple(map(str, roots)), batch=BATCH))
    constructed, constructed_cpu = time.perf_counter(), time.process_time()
    with pipeline.batches() as stream:
        next(stream)
        first, first_cpu, first_peak = time.perf_counter(), time.process_time(), peak_memory()
        for _ in range(LATER_BATCHES):
            next(stream)
        later = time.perf_counter()
    return {
        "construction_s": constructed - begun,
        "construction_cpu_s": constructed_cpu - begun_cpu,
        "first_batch_s": first - constructed,
        "first_batch_cpu_s": first_cpu - constructed_cpu,
        "later_batch_s": (later - first) / LATER_BATCHES,
        "first_batch_peak_mb": first_peak / 1e6,
        "peak_mb": peak_memory() / 1e6,
    }


def measure_order(n_clips: int) -> dict[str, float]:
    """Measures the order of clips alone: seconds for the first clip and for each later one."""
    order = ClipOrder([n_clips])
    begun, begun_cpu = time.perf_counter(), time.thread_time()
    order[0]
    first, first_cpu = time.perf_counter(), time.thread_time()
    for position in range(1, LATER_CLIPS):
        order[position]
    later = time.perf_counter()
    return {
        "first_clip_s": first - begun,
        "first_clip_cpu_s": first_cpu - begun_cpu,
        "later_clip_s": (later - first) / LATER_CLIPS,
        "peak_mb": peak_memory() / 1e6,
    }


def peak_memory() -> int:
    """Returns the largest resident memory of this process so far, in bytes."""
    # Not `getrusage`: it includes the memory of the process that started this one.
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def main(argv: list[str]) -> int:
    """Makes the sets, measures, prints and writes the figures; returns the exit code."""
    sizes = [int(size) for size in FLAGS.clips]
    results: dict[str, dict[str, float]] = {}
    new_process = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as name,
        ProcessPoolExecutor(1, new_process, max_tasks_per_child=1) as pool,
    ):
        directory = Path(name)
        prepared = prepare_clips(directory)
        files = fill_shards(prepared, directory, CLIPS_A_SHARD)

        for size in sizes:
            root = directory / str(size)
            link_set(prepared, files, CLIPS_A_SHARD, max(size // CLIPS_A_SHARD, 1), root)
            results[f"{size} clips"] = pool.submit(measure_sets, [root]).result()
        if FLAGS.sets > 1:
            roots = link_sets(prepared, directory / "mixed", max(sizes), FLAGS.sets)
            one, mixed = (pool.submit(measure_sets, part).result() for part in (roots[:1], roots))
            results |= {f"1 x {max(sizes)} clips": one, f"{FLAGS.sets} x {max(sizes)} clips": mixed}
            results["more than one set"] = {figure: mixed[figure] - one[figure] for figure in one}
        results[f"order of {FLAGS.order} clips"] = pool.submit(measure_order, FLAGS.order).result()
    for part, figures in results.items():
        print(f"{part:26}", *(f"{figure} {value:9.5f} " for figure, value in figures.items()))
    if FLAGS.json:
        Path(FLAGS.json).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


def define_flags() -> None:
    """Declares the command line."""
    flags.DEFINE_list("clips", ["1000", "10000", "100000", "1000000"], "Numbers of clips of the sets.")
    flags.DEFINE_integer("sets", 1, "Number of sets of the largest size to mix; 1 for none.", lower_bound=1)
    flags.DEFINE_integer("order", 10_000_000, "Number of clips to put in order.", lower_bound=1)
    flags.DEFINE_string("json", None, "File to write the figures to.")


if __name__ == "__main__":
    command.run("many_clips", define_flags, main)
