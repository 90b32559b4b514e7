"""Pre-train HiCMAE, or resume a run.

    python -m launch.pretrain --config=pretrain:B --config.data.sets=prepared/dev --run=runs/b

The same command resumes a stopped run. `configs/pretrain.py` lists every setting; flags such as
`--config.batch=1024` change them. On several hosts, start the same command on each host. `docs/operations.md`
explains runs on several hosts, and every message and exit code.
"""

from typing import NoReturn

from absl import flags

from hicmae_jax.supervision.signals import StopSignals
from launch import command, config_flag, training_main

FLAGS = flags.FLAGS

PROGRAM = "pretrain"


def define_flags() -> None:
    """Declare the flags; not at import, because other commands have flags of the same names."""
    flags.DEFINE_string("run", None, "Directory of the run; new, or one to go on with.", required=True)
    flags.DEFINE_bool(
        "allow_changes", False, "Go on although the data, seed or batch are not those of the run so far."
    )
    flags.DEFINE_string("branch_from", None, "Another run, whose checkpoint this one begins with.")
    flags.DEFINE_integer("branch_step", None, "Which of its checkpoints; by default the last.", lower_bound=0)
    training_main.define_flags()


def main(argv: list[str]) -> NoReturn:
    """Run the command and end the process."""
    training_main.run(PROGRAM, train)


def train(platform: str, stop_signals: StopSignals) -> None:
    """Pre-train as the flags say; see `training_main.run`."""
    from hicmae_jax.hosts import agreement
    from hicmae_jax.runs import pretrain, resuming
    from hicmae_jax.runs.branching import Branch
    from hicmae_jax.settings import pretrain as run_config

    with agreement.all_or_none():
        begun_in = resuming.layout_of(FLAGS.run, FLAGS.branch_from)
        config = run_config.from_config_dict(FLAGS.config, platform, begun_in)
    if FLAGS.branch_step is not None and not FLAGS.branch_from:
        raise ValueError(f"--branch_step={FLAGS.branch_step} goes with --branch_from=RUN")
    branch = Branch(FLAGS.branch_from, FLAGS.branch_step) if FLAGS.branch_from else None
    pretrain.run(config, FLAGS.run, FLAGS.allow_changes, stop_signals=stop_signals, branch=branch)


if __name__ == "__main__":
    command.run(PROGRAM, define_flags, main, parse=config_flag.parse, resumable=True)
