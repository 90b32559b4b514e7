"""Write a synthetic corpus of talking faces: `python -m launch.make_corpus --root DIR --clips 200`.

After an interruption, the same command writes the missing clips. A directory with other files is refused.
"""

import time
from collections.abc import Callable
from typing import Any

from absl import flags

from data_pipeline.synthetic import (
    EASY,
    CorpusError,
    Difficulty,
    PlannedClip,
    write_crema_d,
    write_made_up,
    write_voxceleb2,
)
from launch import command

FLAGS = flags.FLAGS
WRITERS: dict[str, Callable[..., list[PlannedClip]]] = {
    "voxceleb2": write_voxceleb2,
    "crema_d": write_crema_d,
    "made_up": write_made_up,
}
LAYOUTS_WITH = {  # layouts that have an option which others lack
    "test_speakers": ("voxceleb2",),
    "difficult": ("voxceleb2", "made_up"),
    "seconds": ("voxceleb2", "made_up"),
}


def define_flags() -> None:
    """Declare the flags; not at import, because other commands have flags of the same names."""
    flags.DEFINE_string(
        "root", None, "Directory to write: new, empty, or begun by this command.", required=True
    )
    flags.DEFINE_integer("clips", 200, "Number of clips.", lower_bound=1)
    flags.DEFINE_enum(
        "layout",
        "voxceleb2",
        list(WRITERS),
        "Data set whose directory layout and file names to use; made_up is this project's own, with emotions "
        "that are hard to tell in labels.csv.",
    )
    flags.DEFINE_integer(
        "speakers",
        None,
        "Number of speakers; by default one for every 8 clips (voxceleb2), 12 (crema_d) or 6 (made_up).",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "test_speakers",
        None,
        "Number of speakers in the test split; by default a tenth (voxceleb2 only).",
        lower_bound=0,
    )
    flags.DEFINE_list(
        "seconds",
        None,
        "Shortest and longest clip in s; by default 4,10 (voxceleb2) or 2.6,3.2 (made_up). Not for crema_d, "
        "whose clips are sentences.",
    )
    flags.DEFINE_bool(
        "difficult",
        None,
        "Weak and contradicting expressions, covers and noise: yes by default for made_up, no for voxceleb2. "
        "Not for crema_d.",
    )
    flags.DEFINE_integer("seed", 0, "Seed of all random draws.", lower_bound=0)
    flags.DEFINE_integer("workers", None, "Number of processes; by default one a core.", lower_bound=1)


def main(argv: list[str]) -> int:
    """Write the corpus, print the duration and return the exit code."""
    start = time.monotonic()
    planned = _write()
    print(f"{len(planned)} clips of {FLAGS.layout} in {FLAGS.root}, {time.monotonic() - start:.0f} s")
    return 0


def _write() -> list[PlannedClip]:
    for name, layouts in LAYOUTS_WITH.items():
        if FLAGS[name].present and FLAGS.layout not in layouts:
            raise CorpusError(f"--{name} is for --layout={' and '.join(layouts)} only")
    options: dict[str, Any] = dict(seed=FLAGS.seed, workers=FLAGS.workers, progress=True)
    if FLAGS.seconds is not None:
        options["seconds"] = _seconds(FLAGS.seconds)
    if FLAGS.test_speakers is not None:
        options["test_speakers"] = FLAGS.test_speakers
    if FLAGS.difficult:
        options["difficulty"] = Difficulty()
    elif FLAGS.difficult is not None and FLAGS.layout == "made_up":
        options["difficulty"] = EASY
    return WRITERS[FLAGS.layout](FLAGS.root, FLAGS.clips, FLAGS.speakers, **options)


def _seconds(values: list[str]) -> tuple[float, float]:
    try:
        shortest, longest = map(float, values)
    except ValueError:
        raise CorpusError(f"--seconds={','.join(values)} is not shortest,longest, such as 4,10") from None
    return shortest, longest


if __name__ == "__main__":
    command.run("make_corpus", define_flags, main, resumable=True)
