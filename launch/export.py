"""Export a run's weights under the published PyTorch names.

    python -m launch.export --run=runs/b --output=b.safetensors            the last checkpoint
    python -m launch.export --run=runs/b --step=5000 --output=b.pth        another one, as a PyTorch file
    python -m launch.export --run=runs/b --output=b.safetensors --check    and compare with PyTorch

`hicmae_jax/weights/torch_model.py` loads the file and needs only PyTorch. ``--check`` reads the file back and
compares predictions and loss terms of both implementations on random clips. If they disagree, no file is
written and the exit code is 2.
"""

from absl import flags
from etils import epath

from hicmae_jax.weights.export import export
from launch import command, compilation_cache

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Declare the flags; not at import, because other commands have flags of the same names."""
    flags.DEFINE_string("run", None, "Directory of the run.", required=True)
    flags.DEFINE_integer("step", None, "Step of the checkpoint; by default the last.", lower_bound=0)
    flags.DEFINE_string("output", None, "File to write: .safetensors, .pth or .pt.", required=True)
    flags.DEFINE_bool("check", False, "Compare with PyTorch.")


def main(argv: list[str]) -> int:
    """Run the command and return its exit code."""
    compilation_cache.use()
    export(FLAGS.run, FLAGS.step, epath.Path(FLAGS.output), FLAGS.check)
    return 0


if __name__ == "__main__":
    command.run("export", define_flags, main)
