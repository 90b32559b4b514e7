"""The commands that make up and prepare the corpora of a study: one without labels, and one with emotions."""

from collections.abc import Sequence
from pathlib import Path

from hicmae_jax.studies.stages import Stage, python_command

CLIPS, SPEAKERS = 2_880, 480
"""Of the clips without labels."""
SIDE = 64
"""Side of the stored faces, in pixels, where models take no larger ones."""


def without_labels(
    root: Path, test_speakers: int, splits: Sequence[str] = ("dev",), seed: int = 0
) -> list[Stage]:
    """The commands that make `<root>/<split>`, prepared sets of clips for pre-training.

    Args:
        root: directory in which they work.
        test_speakers: how many of the `SPEAKERS` belong to the split `test`.
        splits: those that are prepared.
        seed: of the corpus.
    """
    raw = root / "raw"
    made = python_command(
        "launch.make_corpus",
        root=raw,
        difficult=True,
        clips=CLIPS,
        speakers=SPEAKERS,
        test_speakers=test_speakers,
        seconds="2.6,3.2",
        seed=seed,
    )
    return [
        Stage("make up clips", made),
        *(
            Stage(
                f"prepare {split}",
                python_command("launch.prepare", input=raw, output=root / split, split=split),
            )
            for split in splits
        ),
    ]


def with_labels(root: Path, clips: int, speakers: int, seed: int = 0) -> list[Stage]:
    """The commands that make `<root>/labelled`, a prepared set of clips with emotions.

    Args:
        root: directory in which they work.
        clips: number of clips.
        speakers: number of people in them.
        seed: of the corpus.
    """
    raw = root / "raw_labelled"
    made = python_command(
        "launch.make_corpus", root=raw, layout="made_up", clips=clips, speakers=speakers, seed=seed
    )
    prepared = python_command(
        "launch.prepare", dataset="made_up", input=raw, output=root / "labelled", side=SIDE
    )
    return [Stage("make up labelled clips", made), Stage("prepare the labelled clips", prepared)]
