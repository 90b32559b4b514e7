"""`launch.pretrain` with faults from inside: NaN in the video of chosen steps, a pause after a chosen step.

    python -m tests.support.instrumented_pretrain --poison=13,40 --pause_after=7 <flags of launch.pretrain>

When the line of that step is in its log, the run makes the file `pause_file(RUN)` and waits until somebody
deletes it. Only the first host writes the log, so only that one pauses.
"""

import os
import tempfile
import time
from pathlib import Path

from absl import flags
from etils import epath

from data_pipeline.common import buckets
from data_pipeline.common.buckets import is_bucket
from launch import command, config_flag, pretrain

FLAGS = flags.FLAGS


def pause_file(run: epath.PathLike) -> Path:
    """The file that is there while a run pauses: beside its directory, or of a bucket, a temporary one."""
    if is_bucket(run):
        return Path(tempfile.gettempdir()) / f"{os.fspath(run).replace('/', '-').replace(':', '')}.paused"
    return Path(f"{os.fspath(run)}.paused")


def main(argv: list[str]) -> int:
    if FLAGS.poison:
        _poison([int(step) for step in FLAGS.poison])
    if FLAGS.patience:
        buckets.PATIENCE = FLAGS.patience
    if FLAGS.pause_after:
        _pause(FLAGS.pause_after, pause_file(FLAGS.run))
    return pretrain.main(argv)


def _poison(steps: list[int]) -> None:
    """Put NaN into the video of these steps. Clips hold whole numbers, so their files cannot have it."""
    import jax.numpy as jnp
    import numpy as np

    from hicmae_jax.runs import step_loss

    chosen = np.array(steps, np.int32)
    preprocess_batch = step_loss.preprocess_batch

    def poisoned(batch, seed_key, step, config):
        inputs = preprocess_batch(batch, seed_key, step, config)
        return inputs._replace(video=jnp.where((step == chosen).any(), jnp.nan, inputs.video))

    step_loss.preprocess_batch = poisoned


def _pause(after: int, file: Path) -> None:
    import jax

    from hicmae_jax.logs.metrics import MetricsLog

    write = MetricsLog.write

    def write_and_pause(self, step, values):
        write(self, step, values)
        if step == after and jax.process_index() == 0:
            file.touch()
            while file.exists():
                time.sleep(0.01)

    MetricsLog.write = write_and_pause


def define_flags() -> None:
    flags.DEFINE_list("poison", [], "Steps, counted from 0.")
    flags.DEFINE_integer("pause_after", 0, "Step, counted from 1; 0 for no pause.")
    flags.DEFINE_float("patience", None, "Seconds for which requests to a bucket are tried again.")
    pretrain.define_flags()


if __name__ == "__main__":
    command.run(pretrain.PROGRAM, define_flags, main, parse=config_flag.parse, resumable=True)
