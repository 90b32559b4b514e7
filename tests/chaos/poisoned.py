"""`launch.pretrain` with NaN in the video of chosen steps, from within the step: clips hold whole numbers.

python -m tests.chaos.poisoned --poison=13,40 <flags of launch.pretrain>
"""

import jax.numpy as jnp
import numpy as np
from absl import flags

from launch import config_flag, host_flags, pretrain


def main(argv: list[str]) -> int:
    # Not above, for the launcher settles things first.
    from hicmae_jax.runs import step_loss

    poison = np.array(flags.FLAGS.poison, np.int32)
    preprocess_batch = step_loss.preprocess_batch

    def poisoned(batch, seed_key, step, config):
        inputs = preprocess_batch(batch, seed_key, step, config)
        return inputs._replace(video=jnp.where((step == poison).any(), jnp.nan, inputs.video))

    step_loss.preprocess_batch = poisoned
    return pretrain.main(argv)


if __name__ == "__main__":
    flags.DEFINE_list("poison", [], "Steps, counted from 0.")
    pretrain.define_flags()
    host_flags.define_flags()
    config_flag.run(main)
