"""Write a made-up talking-face corpus: `python -m launch.make_corpus --root DIR --clips 200`.

The same command again completes what is missing; a directory with anything else in it is refused.
"""

import time

from absl import flags

from data_pipeline.synthetic import CorpusError, PlannedClip, write_crema_d, write_voxceleb2
from launch import command

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Declares the command line; only when run, so that other commands may use the same names."""
    flags.DEFINE_string(
        "root", None, "Directory to write; new, empty, or an earlier run of this command.", required=True
    )
    flags.DEFINE_integer("clips", 200, "How many clips.", lower_bound=1)
    flags.DEFINE_enum("layout", "voxceleb2", ["voxceleb2", "crema_d"], "Whose directory layout and names.")
    flags.DEFINE_integer(
        "speakers",
        None,
        "How many speakers; by default one for 8 clips (voxceleb2) or 12 (crema_d).",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "test_speakers",
        None,
        "How many of the speakers are the test split; by default a tenth (voxceleb2 only).",
        lower_bound=0,
    )
    flags.DEFINE_list(
        "seconds",
        None,
        "Shortest and longest clip; by default 4,10 (voxceleb2 only: CREMA-D's are sentences).",
    )
    flags.DEFINE_integer("seed", 0, "Seed of everything drawn.", lower_bound=0)
    flags.DEFINE_integer("workers", None, "Processes; by default one a core.", lower_bound=1)


def main(argv: list[str]) -> int:
    """Writes the corpus, says how long it took, and returns the exit code."""
    start = time.monotonic()
    planned = _write()
    print(f"{len(planned)} clips of {FLAGS.layout} in {FLAGS.root}, {time.monotonic() - start:.0f} s")
    return 0


def _write() -> list[PlannedClip]:
    common = dict(seed=FLAGS.seed, workers=FLAGS.workers, progress=True)
    of_voxceleb2 = {}
    if FLAGS.seconds is not None:
        of_voxceleb2["seconds"] = _seconds(FLAGS.seconds)
    if FLAGS.test_speakers is not None:
        of_voxceleb2["test_speakers"] = FLAGS.test_speakers
    if FLAGS.layout == "voxceleb2":
        return write_voxceleb2(FLAGS.root, FLAGS.clips, FLAGS.speakers, **common, **of_voxceleb2)
    if of_voxceleb2:
        raise CorpusError(f"--{next(iter(of_voxceleb2))} goes with --layout=voxceleb2 only")
    return write_crema_d(FLAGS.root, FLAGS.clips, FLAGS.speakers, **common)


def _seconds(values: list[str]) -> tuple[float, float]:
    try:
        shortest, longest = map(float, values)
    except ValueError:
        raise CorpusError(f"--seconds={','.join(values)} is not shortest,longest") from None
    return shortest, longest


if __name__ == "__main__":
    command.run("make_corpus", define_flags, main, resumable=True)
