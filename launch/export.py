"""Export a run's weights for PyTorch, transformers and this project.

    python -m launch.export --run=runs/b --output=weights/b                 a folder with all that they need
    python -m launch.export --run=runs/crema_d/fold-1 --best --output=a     of a fine-tuned model too
    python -m launch.export --run=runs/b --output=b.safetensors             a file of the last checkpoint
    python -m launch.export --run=runs/b --step=5000 --output=b.pth         another one, as a PyTorch file
    python -m launch.export --run=runs/b --output=b.safetensors --check     and compare with PyTorch

A folder is always compared with PyTorch, which it needs; a file is compared with ``--check``. Both
implementations compute the same random clips. If they disagree, nothing is written and the exit code is 2.
docs/pytorch.md says how to use a folder.
"""

from absl import flags
from etils import epath

from data_pipeline.corpora import protocols
from hicmae_jax.evaluation import intervals
from hicmae_jax.runs.fold_report import read_fold
from hicmae_jax.weights import card, export
from hicmae_jax.weights.files import PTH, SAFETENSORS
from hicmae_jax.weights.trained import Trained
from launch import command, compilation_cache

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Declare the flags; not at import, because other commands have flags of the same names."""
    flags.DEFINE_string("run", None, "Directory of the run.", required=True)
    flags.DEFINE_integer("step", None, "Step of the checkpoint; by default the last.", lower_bound=0)
    flags.DEFINE_bool("best", False, "Take the checkpoint with the best score, instead of the last.")
    flags.DEFINE_string(
        "output", None, "Folder to write, or a file: .safetensors, .pth or .pt.", required=True
    )
    flags.DEFINE_bool("check", False, "Compare a file with PyTorch.")


def main(argv: list[str]) -> int:
    """Run the command and return its exit code."""
    compilation_cache.use()
    output = epath.Path(FLAGS.output)
    if output.suffix in PTH + SAFETENSORS:
        export.export(FLAGS.run, FLAGS.step, output, FLAGS.check, FLAGS.best)
    else:
        export.export_folder(FLAGS.run, FLAGS.step, output, FLAGS.best, test_clips)
    return 0


def test_clips(trained: Trained) -> card.TestClips | None:
    """The test clips of a finished fold, with the intervals of the scores of its checkpoint."""
    epoch = card.scored_epoch(trained)
    if not epoch:
        return None
    protocol = protocols.protocol(trained.values["data.protocol"])
    found = read_fold(epath.Path(FLAGS.run), protocol, trained.values["data.fold"])
    if found is None:  # --run is the directory of its checkpoints
        return None
    _, result = found
    outputs = result.outputs(epoch)
    assert outputs is not None  # the checkpoint is one of the scored ones
    if protocol.regression:
        of_scores = intervals.regression_intervals(result.true, outputs, trained.labels, result.units)
    else:
        of_scores = intervals.class_intervals(result.true, outputs, result.units)
    return card.TestClips(
        len(result.names),
        len({unit for unit in result.units if unit}),
        "session" if protocol.fold_by == protocols.SESSION else "speaker",
        {name: card.Interval(each.low, each.high) for name, each in of_scores.items() if not each.note},
    )


if __name__ == "__main__":
    command.run("export", define_flags, main)
