r"""Make a run of published or other PyTorch weights: to evaluate, to fine-tune from, or to train on.

    python -m launch.import_weights --weights=checkpoint-99.pth --config=pretrain:B --run=runs/published
    python -m launch.import_weights --weights=fold5.pth --config=finetune:crema_d --config.data.fold=5 \
        --run=runs/published_fold5

``--weights`` is a .pth, .pt or .safetensors file with the published names. A .pth is read without running
code in it; it may be a whole training checkpoint, of which only the weights are taken. ``--config`` names the
recipe that fits them: its size, and what else no shape tells, such as the side of the frames.

The run stands at step 0. `launch.evaluate` scores it, `--config.initial.weights` of a fine-tuning run takes
it, `launch.export` writes it, and `launch.pretrain --run=…` with data of your own trains it on.
"""

from absl import flags

from hicmae_jax.runs.imported import import_weights
from launch import command, config_flag

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Declare the flags; not at import, because other commands have flags of the same names."""
    flags.DEFINE_string("weights", None, "The file: .pth, .pt or .safetensors.", required=True)
    flags.DEFINE_string("run", None, "Directory of the run to make: new, or empty.", required=True)


def main(argv: list[str]) -> int:
    """Run the command and return its exit code."""
    del argv
    import jax

    jax.config.update("jax_platforms", "cpu")  # nothing is computed, so no accelerator is occupied
    for line in import_weights(FLAGS.weights, FLAGS.config, FLAGS.run):
        print(line)
    return 0


if __name__ == "__main__":
    command.run("import", define_flags, main, parse=config_flag.parse)
