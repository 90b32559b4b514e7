"""The gain from the layout of records, and the cost of preparation, on made-up clips of 8 seconds.

    python -m benchmarks.record_layout [--clips=16] [--json=FILE]

Preparation: the processor time of all that a worker does. Layout: the same clips are stored as polyphase
records, one or eight to an ArrayRecord group, and as one record a clip; then samples of one phase are read in
random order. The files are in the page cache, so the figures show the cost to the processor, not to the disk.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import simplejpeg
import tensorflow_datasets as tfds
from absl import flags
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from etils import epath

from data_pipeline.corpora import clip_files, voxceleb2
from data_pipeline.corpora.layouts import Corpus
from data_pipeline.format import records
from data_pipeline.format.records import STRIDE
from data_pipeline.media import decode as media
from data_pipeline.preparation.plan import Options, ensure_plan
from data_pipeline.preparation.shard_writer import ShardSpec, write_shard
from data_pipeline.synthetic import write_voxceleb2
from launch import command

FLAGS = flags.FLAGS

SECONDS = 8.0
FRAMES = 16  # of a sample, at stride STRIDE
VOXCELEB2_CLIPS = 1_091_581
READS = 300

# Name: ArrayRecord options, stride of a record's frames.
LAYOUTS = {
    "polyphase": (records.ARRAY_RECORD_OPTIONS, STRIDE),
    "polyphase, groups of 8": ("group_size:8,uncompressed", STRIDE),
    "one record a clip": (records.ARRAY_RECORD_OPTIONS, 1),
}


def cpu_seconds(function: Callable[[], object], repeats: int = 1) -> float:
    """Processor time of one call in seconds, over all threads of this process."""
    begun = time.process_time()
    for _ in range(repeats):
        function()
    return (time.process_time() - begun) / repeats


def encode(clip: media.Clip, stride: int) -> list[bytes]:
    """The video records of a clip, one for each phase."""
    return [
        records.encode_video(
            "id00012/21Uxsk56VDQ/00001",
            clip.jpegs[phase::stride],
            n_frames=len(clip.jpegs),
            phase=phase,
            stride=stride,
            fps=media.FPS,
            height=160,
            width=160,
        )
        for phase in range(stride)
    ]


def write(path: Path, options: str, encoded: list[bytes]) -> None:
    """Writes records to an ArrayRecord file."""
    writer = ArrayRecordWriter(str(path), options)
    for record in encoded:
        writer.write(record)
    writer.close()


def measure_layout(clips: list[media.Clip], directory: Path, options: str, stride: int) -> dict[str, float]:
    """Stores the clips in a layout and reads samples from it at random."""
    encoded = [record for clip in clips for record in encode(clip, stride)]
    path = directory / f"{options}-{stride}"
    write(path, options, encoded)
    reader = ArrayRecordReader(str(path), "readahead_buffer_size:0,max_parallelism:0")
    order = iter(np.random.default_rng(0).integers(len(encoded), size=READS + 1).tolist())

    def read() -> list[memoryview]:
        record = records.parse_video(reader.read([next(order)])[0], checksum=False)
        return [record.jpeg(frame * STRIDE // stride) for frame in range(FRAMES)]

    jpegs = read()
    bare = cpu_seconds(lambda: [simplejpeg.decode_jpeg(jpeg) for jpeg in jpegs], 30)
    seconds = cpu_seconds(read, READS)
    reader.close()
    return {
        "stored_mb_per_clip": path.stat().st_size / len(clips) / 1e6,
        "read_mb_per_sample": sum(map(len, encoded)) / len(encoded) / 1e6,
        "read_ms_per_sample": 1e3 * seconds,
        "read_over_jpeg_decode": seconds / bare,
    }


def measure_parsing(clip: media.Clip) -> dict[str, float]:
    """Times three ways to parse a record of one phase, in µs."""
    stored = encode(clip, STRIDE)[0]
    features = tfds.features.FeaturesDict({records.FEATURE: tfds.features.Tensor(shape=(), dtype=np.object_)})
    ways = {
        "parse_us": lambda: records.parse_video(stored, checksum=False),
        "parse_with_checksum_us": lambda: records.parse_video(stored),
        "parse_by_tfds_us": lambda: records.parse_video(
            features.deserialize_example_np(stored)[records.FEATURE], checksum=False
        ),
    }
    return {name: 1e6 * cpu_seconds(way, 500) for name, way in ways.items()}


def measure_preparation(root: epath.Path, directory: Path, clips: list[media.Clip]) -> dict[str, float]:
    """Prepares a corpus shard by shard, as a worker does, and returns what it costs.

    Args:
        root: directory of the corpus.
        directory: directory of the prepared set.
        clips: decoded clips of the corpus.
    """
    plan = ensure_plan(Corpus((root,)), epath.Path(directory), Options())
    specs = [ShardSpec((str(root),), str(directory), index) for index in range(plan.n_shards)]

    def write_all() -> None:
        for spec in specs:
            write_shard(spec)

    seconds = cpu_seconds(write_all) / len(clips)
    n_bytes = sum(file.stat().st_size for file in directory.rglob("*.array_record-*"))
    return {
        "decode_share": cpu_seconds(lambda: load_all(root)) / len(clips) / seconds,
        "clips_per_second_per_core": 1 / seconds,
        "core_hours_for_voxceleb2": VOXCELEB2_CLIPS * seconds / 3600,
        "kb_per_frame": statistics.mean(len(jpeg) for clip in clips for jpeg in clip.jpegs) / 1e3,
        "mb_per_8s_clip": n_bytes / len(clips) / 1e6,
    }


def load_all(root: epath.Path) -> list[media.Clip]:
    """Decodes every clip of a corpus."""
    clips = voxceleb2.find_clips([root], "dev").clips
    return [clip_files.load(clip, [str(root)], media.Crop()) for clip in clips]


def main(argv: list[str]) -> int:
    """Makes clips, measures, prints and writes the figures; returns the exit code."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        # One of the two speakers is in the test split, so that twice --clips gives --clips in the other.
        write_voxceleb2(directory / "corpus", clips=2 * FLAGS.clips, speakers=2, seconds=(SECONDS, SECONDS))
        root = epath.Path(directory / "corpus")
        clips = load_all(root)
        preparation = measure_preparation(root, directory / "prepared", clips)
        results = {"preparation": preparation, "parsing": measure_parsing(clips[0])}
        for layout, (options, stride) in LAYOUTS.items():
            results[layout] = measure_layout(clips, directory, options, stride)
    for part, figures in results.items():
        print(part)
        for figure, value in figures.items():
            print(f"  {figure:28}{value:10.3f}")
    if FLAGS.json:
        Path(FLAGS.json).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


def define_flags() -> None:
    """Declares the command line."""
    flags.DEFINE_integer("clips", 16, "Number of clips to prepare.", lower_bound=1)
    flags.DEFINE_string("json", None, "File to write the figures to.")


if __name__ == "__main__":
    command.run("record_layout", define_flags, main)
