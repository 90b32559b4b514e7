"""What the benchmarks of reading share: clips that are made and prepared, flags, and the file of figures."""

import json
from collections.abc import Mapping
from pathlib import Path

from absl import flags
from etils import epath

from data_pipeline.corpora.layouts import Corpus
from data_pipeline.format.prepared_set import PreparedSet
from data_pipeline.preparation.builder import prepare
from data_pipeline.preparation.plan import Options, Plan
from data_pipeline.preparation.shard_writer import ShardSpec, write_shard
from data_pipeline.synthetic import write_voxceleb2

FLAGS = flags.FLAGS

BATCH = 32
SECONDS = 8.0  # of a clip


def define_flags() -> None:
    """Declares the command line."""
    flags.DEFINE_integer("clips", 40, "Clips to prepare.", lower_bound=BATCH)
    flags.DEFINE_integer("rounds", 5, "Rounds to take medians over.", lower_bound=1)
    flags.DEFINE_string("json", None, "File to write the figures to.")


def make_set(directory: Path, shard_mb: float | None = None) -> tuple[Path, Path, PreparedSet]:
    """Make `--clips` clips and prepare them.

    Args:
        directory: an empty one, to write into.
        shard_mb: size of a shard in 10⁶ bytes; None as `launch.prepare` chooses.

    Returns:
        Directories of the files and of the prepared set, and its description.
    """
    corpus, prepared = directory / "corpus", directory / "prepared"
    # One of the six speakers is in the test split.
    write_voxceleb2(corpus, clips=FLAGS.clips * 6 // 5, speakers=6, seconds=(SECONDS, SECONDS))
    about = prepare(
        Corpus((epath.Path(corpus),)), epath.Path(prepared), Options(shard_mb=shard_mb), _write_shards
    )
    return corpus, prepared, about


def write_figures(figures: Mapping[str, float]) -> None:
    """Write the figures to the file of `--json`, if there is one."""
    if FLAGS.json:
        Path(FLAGS.json).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def _write_shards(specs: list[ShardSpec], plan: Plan) -> None:
    for spec in specs:
        write_shard(spec)
