r"""Compute features or emotions of videos.

    python -m launch.embed --model=runs/crema_d/fold-1 --input=interview.mp4 --output=out
    python -m launch.embed --model=exported --input=videos --input=more.txt --output=out --parquet

``--model`` is a run, a folder that `launch.export` has written, or a weight file. A fine-tuned model gives
emotions, a pre-training model features. ``--input`` is a video or sound file of any common kind, a folder, or
a list of files (.txt); give it as often as you like. The model sees windows of 2.56 s; ``--hop`` says how far
they are apart. docs/pytorch.md explains what is written.

The same command goes on after an interruption. Files that cannot be read are listed and left out.
"""

from absl import flags

from data_pipeline.common.cores import usable_cores
from hicmae_jax.evaluation import embed_run
from launch import command, compilation_cache

FLAGS = flags.FLAGS
SHOWN = 20


def define_flags() -> None:
    """Declare the flags; not at import, because other commands have flags of the same names."""
    flags.DEFINE_string(
        "model", None, "A run, a folder of exported weights, or a weight file.", required=True
    )
    flags.DEFINE_multi_string("input", None, "A file, a folder or a list (.txt); repeatable.", required=True)
    flags.DEFINE_string("output", None, "Directory to write to.", required=True)
    flags.DEFINE_integer("step", None, "Step of the run's checkpoint; by default the last.", lower_bound=0)
    flags.DEFINE_bool("best", False, "Take the run's checkpoint with the best score instead.")
    flags.DEFINE_enum(
        "faces",
        "auto",
        embed_run.FACES,
        "What is seen: the largest face; each face; the square in the centre; the face of VoxCeleb2's "
        "frames; or the whole frame, if it is a face already. auto: the largest face, or the centre without "
        "the packages that find faces.",
    )
    flags.DEFINE_float("hop", None, "Seconds from one window to the next; by default half a window.")
    flags.DEFINE_integer("batch", 16, "Windows computed at a time.", lower_bound=1)
    flags.DEFINE_integer(
        "threads", usable_cores(), "Files read at the same time; threads that look for faces.", lower_bound=1
    )
    flags.DEFINE_bool("parquet", False, "Write features.parquet, a table of all features, too.")


def main(argv: list[str]) -> int:
    """Run the command; the exit code is 2 if no file could be used."""
    del argv
    compilation_cache.use()
    choices = embed_run.Choices(FLAGS.faces, FLAGS.hop, FLAGS.batch, FLAGS.threads, FLAGS.parquet)
    done = embed_run.embed_videos(FLAGS.model, FLAGS.input, FLAGS.output, choices, FLAGS.step, FLAGS.best)
    for name in done.files[:SHOWN]:
        print(f"  {name}: {done.emotions.get(name, 'features')}")
    if len(done.files) > SHOWN:
        print(f"  … and {len(done.files) - SHOWN:,} more")
    for name, why in done.broken.items():
        print(f"left out  {name}: {why}")
    print(f"wrote     {FLAGS.output}: {len(done.files):,} files, {len(done.broken):,} left out")
    return 0 if done.files else 2


if __name__ == "__main__":
    command.run("embed", define_flags, main, resumable=True)
