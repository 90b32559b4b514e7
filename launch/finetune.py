r"""Fine-tune HiCMAE on an emotion data set and score it, fold by fold, or resume.

    python -m launch.finetune --config=finetune:crema_d --config.data.sets=prepared/crema_d \
        --config.initial.weights=runs/b --run=runs/crema_d --folds=all

The same command resumes: it skips finished folds and goes on with an interrupted one. Each fold is a run in
`<run>/fold-<k>`. `configs/finetune.py` says what the recipe sets; flags such as `--config.epochs=20` change
it. On several hosts, start the same command on each host. Several commands with different `--folds` and the
same `--run` train folds side by side.
"""

from typing import NoReturn

from absl import flags
from etils import epath

from hicmae_jax.supervision.signals import StopSignals
from launch import command, config_flag, training_main

FLAGS = flags.FLAGS

PROGRAM = "finetune"


def define_flags() -> None:
    """Declare the flags; not at import, because other commands have flags of the same names."""
    flags.DEFINE_string("run", None, "Directory of the folds; new, or one to go on with.", required=True)
    flags.DEFINE_list("folds", ["all"], "Numbers of the folds to run, in order; or all.")
    flags.DEFINE_bool(
        "allow_changes", False, "Go on although the data, seed or batch are not those of the run so far."
    )
    training_main.define_flags()


def main(argv: list[str]) -> NoReturn:
    """Run the command and end the process."""
    training_main.run(PROGRAM, train)


def train(platform: str, stop_signals: StopSignals) -> None:
    """Fine-tune and score as the flags say; see `training_main.run`."""
    from hicmae_jax.runs import folds

    folds.run(
        FLAGS.config,
        epath.Path(FLAGS.run),
        FLAGS.folds,
        platform,
        allow_changes=FLAGS.allow_changes,
        stop_signals=stop_signals,
    )


if __name__ == "__main__":
    command.run(PROGRAM, define_flags, main, parse=config_flag.parse, resumable=True)
