"""Score a pre-training run on held-out clips.

    python -m launch.evaluate --run=runs/b --data=prepared/test --output=scores/b

Writes into ``--output``:

======================  ====================================================================================
``scores.json``         masked reconstruction errors of the trained model, the untrained model of the same
                        seed and a prediction of zero; audio ↔ video retrieval of both models
``reconstructions.png``  some clips with their masked tokens reconstructed
``retrieval.png``       recall by layer, compared with chance
``curves.png``          losses and scores of the run by step
======================  ====================================================================================

Everything is computed in float32. Every call uses the same clips, start times and masks.
"""

from absl import flags
from etils import epath

from hicmae_jax.evaluation.score_run import score_run
from launch import command, compilation_cache

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Declare the flags; not at import, because other commands have flags of the same names."""
    flags.DEFINE_string("run", None, "Directory of the run.", required=True)
    flags.DEFINE_list("data", None, "Directories of prepared sets, separated by commas.", required=True)
    flags.DEFINE_string("output", None, "Directory to write to.", required=True)
    flags.DEFINE_integer("step", None, "Step of the checkpoint; by default the last.", lower_bound=0)
    flags.DEFINE_integer("clips", 64, "Number of clips, evenly spaced over the sets.", lower_bound=2)
    flags.DEFINE_integer("batch", 16, "Clips computed at a time.", lower_bound=1)


def main(argv: list[str]) -> int:
    """Run the command and return its exit code."""
    if not FLAGS.data:
        raise ValueError("--data names no prepared set")
    compilation_cache.use()
    score_run(FLAGS.run, FLAGS.step, FLAGS.data, FLAGS.clips, FLAGS.batch, epath.Path(FLAGS.output))
    return 0


if __name__ == "__main__":
    command.run("evaluate", define_flags, main)
