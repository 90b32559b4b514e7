"""Export a run's weights under the published PyTorch names.

    python -m launch.export --run=runs/b --output=b.safetensors            of the last checkpoint
    python -m launch.export --run=runs/b --step=5000 --output=b.pth        of another, as PyTorch's own file
    python -m launch.export --run=runs/b --output=b.safetensors --check    and compare with PyTorch

`hicmae_jax/weights/torch_model.py` loads the file and needs nothing but PyTorch. ``--check`` reads the file
back, compares predictions and loss terms of both implementations on random clips, and gives exit code 2 if
they disagree.
"""

from absl import flags
from etils import epath

from hicmae_jax.weights.export import export
from launch import command

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Declares the command line; only when run, so that other commands may use the same names."""
    flags.DEFINE_string("run", None, "Directory of the run.", required=True)
    flags.DEFINE_integer("step", None, "Which checkpoint; by default the last.", lower_bound=0)
    flags.DEFINE_string("output", None, "File to write: .safetensors, .pth or .pt.", required=True)
    flags.DEFINE_bool("check", False, "Compare with PyTorch.")


def main(argv: list[str]) -> int:
    """Runs the command and returns its exit code: 1 after an error, 2 if PyTorch disagrees."""
    return export(FLAGS.run, FLAGS.step, epath.Path(FLAGS.output), FLAGS.check)


if __name__ == "__main__":
    command.run("export", define_flags, main)
