r"""Score a fine-tuned run on another labelled set, or on its own test fold with one modality missing.

    python -m launch.score --run=runs/crema_d/fold-1 --data=prepared/mafw --protocol=mafw_11 \
        --output=scores/crema_d_on_mafw

Of another data set, the clips with an emotion that both protocols have are scored, and only these emotions
may be answered. Of the run's own data, only the test clips of its fold are scored. Writes scores with
intervals over speakers, predictions and features of each clip, and pictures into ``--output``.
"""

from absl import flags

from hicmae_jax.runs.score_corpus import score_corpus
from launch import command, compilation_cache

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Declare the flags; not at import, because other commands have flags of the same names."""
    flags.DEFINE_string("run", None, "Directory of the run of a fold.", required=True)
    flags.DEFINE_string("data", None, "Directory of a labelled set.", required=True)
    flags.DEFINE_string("protocol", None, "Protocol of that set, such as mafw_11.", required=True)
    flags.DEFINE_string("output", None, "Directory to write to.", required=True)
    flags.DEFINE_bool("best", False, "Take the epoch with the best validation, instead of the last.")
    flags.DEFINE_enum("missing", "", ["", "video", "audio"], "A modality to hide from the model.")
    flags.DEFINE_integer("batch", 32, "Clips computed at a time.", lower_bound=1)


def main(argv: list[str]) -> int:
    """Run the command and return its exit code."""
    compilation_cache.use()
    written = score_corpus(
        FLAGS.run,
        FLAGS.data,
        FLAGS.protocol,
        FLAGS.output,
        best=FLAGS.best,
        missing=FLAGS.missing,
        batch=FLAGS.batch,
    )
    print(f"scored    {written['scored']}, {', '.join(written['classes'])}")
    for name, value in written["scores"].items():
        shown = [_shown(each) for each in (value, *written["intervals"].get(name, (None, None)))]
        print(f"  {name:12}{shown[0]:>6}  [{shown[1]}, {shown[2]}]")
    for line in written["left_out"]:
        print(f"left out  {line}")
    print(f"wrote     {FLAGS.output}")
    return 0


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    command.run("score", define_flags, main)
