"""Write a made-up talking-face corpus: `python -m launch.make_corpus --root DIR --clips 200`.

The same command again completes what is missing; a directory with anything else in it is refused.
"""

import sys
import time

from absl import app, flags

from data_pipeline.synthetic import CorpusError, write_crema_d, write_voxceleb2

ROOT = flags.DEFINE_string(
    "root", None, "Directory to write; new, empty, or an earlier run of this command.", required=True
)
CLIPS = flags.DEFINE_integer("clips", 200, "How many clips.", lower_bound=1)
LAYOUT = flags.DEFINE_enum(
    "layout", "voxceleb2", ["voxceleb2", "crema_d"], "Whose directory layout and names."
)
SPEAKERS = flags.DEFINE_integer(
    "speakers",
    None,
    "How many speakers; by default one for 8 clips (voxceleb2) or 12 (crema_d).",
    lower_bound=1,
)
SEED = flags.DEFINE_integer("seed", 0, "Seed of everything drawn.", lower_bound=0)
WORKERS = flags.DEFINE_integer("workers", None, "Processes; by default one a core.", lower_bound=1)


def main(argv: list[str]) -> None:
    """Writes the corpus and says how long it took."""
    if len(argv) > 1:
        sys.exit(f"unknown argument {argv[1]!r}: every option is a flag, see --help")
    write = write_voxceleb2 if LAYOUT.value == "voxceleb2" else write_crema_d
    start = time.monotonic()
    try:
        planned = write(
            ROOT.value, CLIPS.value, SPEAKERS.value, seed=SEED.value, workers=WORKERS.value, progress=True
        )
    except (CorpusError, OSError) as error:
        sys.exit(f"make_corpus: {error}")
    print(f"{len(planned)} clips of {LAYOUT.value} in {ROOT.value}, {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    app.run(main)
