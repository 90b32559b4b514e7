"""The labelled corpus ``made_up``: emotions that are hard to tell, to compare models after fine-tuning.

Six classes, many speakers, and in each clip several things that can mislead: see `difficulty`, which also has
the rule of the label. Files: ``video/<name>.mp4`` (the face, without sound), ``sound/<name>.wav``, and
``labels.csv``, which is written last, so that its presence means a complete corpus.
"""

import csv
import dataclasses
import io
import os
from pathlib import Path

from data_pipeline.common import atomic_files
from data_pipeline.synthetic.clip import FPS, ClipSpec, facts_of, stream
from data_pipeline.synthetic.corpus import CLIPS_PER_VIDEO, check_numbers
from data_pipeline.synthetic.difficulty import Difficulty
from data_pipeline.synthetic.person import EMOTIONS
from data_pipeline.synthetic.writing import PlannedClip, write_planned

LABELS = "labels.csv"
SECONDS = (2.6, 3.2)  # shortest and longest clip


def plan_made_up(
    clips: int,
    speakers: int,
    seed: int,
    seconds: tuple[float, float] = SECONDS,
    difficulty: Difficulty = Difficulty(),  # noqa: B008 (frozen)
) -> list[PlannedClip]:
    """Lists the corpus.

    The speakers get clips in turn, three in each recording. Of every six clips of a speaker, one has each
    emotion, in an order drawn for these six. So emotions are balanced, and neither the name nor the recording
    of a clip says anything about them.

    Raises:
        CorpusError: fewer than 2 speakers (two folds need them), fewer clips than speakers, or durations that
            are not the shortest and then the longest.
    """
    check_numbers(clips, speakers, seconds)
    planned = []
    for index in range(clips):
        number, speaker = divmod(index, speakers)
        recording, take = divmod(number, CLIPS_PER_VIDEO)
        six, turn = divmod(number, len(EMOTIONS))
        order = stream(seed, "made_up/order", speaker, six).permutation(len(EMOTIONS))
        rng = stream(seed, "made_up/plan", speaker, recording, take)
        spec = ClipSpec(
            seed=seed,
            corpus="made_up",
            speaker=speaker,
            recording=recording,
            take=take,
            emotion=EMOTIONS[order[turn]],
            seconds=round(rng.uniform(*seconds) * FPS) / FPS,
            studio=False,
            difficulty=difficulty,
        )
        name = f"s{speaker:04d}_{number:03d}"
        planned.append(PlannedClip(spec, f"video/{name}.mp4", f"sound/{name}.wav", face_only=True))
    return planned


def labels_table(planned: list[PlannedClip]) -> str:
    """Returns ``labels.csv``: ``clip,speaker,emotion``, then what explains an error.

    The further columns are ``intensity`` (of the stronger expression), ``contradiction`` (``face`` or
    ``voice`` if that shows another emotion, else empty), ``face`` and ``voice`` (the emotions that they
    show), ``face_intensity`` and ``voice_intensity``, ``occluded`` (``eyes``, ``mouth`` or empty), and
    ``signal_to_noise`` of the sound, dB.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(
        [
            *("clip", "speaker", "emotion", "intensity", "contradiction", "face", "voice"),
            *("face_intensity", "voice_intensity", "occluded", "signal_to_noise"),
        ]
    )
    for clip in planned:
        facts = facts_of(clip.spec)
        name = Path(clip.video).stem
        rows.writerow(
            [
                *(name, name.split("_")[0], facts.emotion, f"{facts.intensity:.3f}", facts.contradiction),
                *(facts.face, facts.voice, f"{facts.face_intensity:.3f}", f"{facts.voice_intensity:.3f}"),
                *(facts.covered, f"{facts.signal_to_noise:.1f}"),
            ]
        )
    return text.getvalue()


def write_made_up(
    root: str | os.PathLike[str],
    clips: int = 400,
    speakers: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    seconds: tuple[float, float] = SECONDS,
    progress: bool = False,
    difficulty: Difficulty = Difficulty(),  # noqa: B008 (frozen)
) -> list[PlannedClip]:
    """Writes, or completes, the corpus.

    Args:
        root: its directory: new, empty, or with the files of an earlier call with the same arguments.
        clips: number of clips.
        speakers: number of speakers; by default one for every six clips, at least two.
        seed: of all random draws.
        workers: number of processes; by default one a core. 1 uses this process.
        seconds: shortest and longest clip.
        progress: whether to show a progress bar.
        difficulty: how hard the emotions are to tell.

    Returns:
        The clips with their files.

    Raises:
        CorpusError: `root` holds something else, or the numbers do not fit each other.
    """
    speakers = speakers or max(2, -(-clips // len(EMOTIONS)))
    planned = plan_made_up(clips, speakers, seed, seconds, difficulty)
    wish = dict(layout="made_up", clips=clips, speakers=speakers, seed=seed, seconds=list(seconds))
    wish["difficulty"] = dataclasses.asdict(difficulty)
    write_planned(Path(root), planned, wish, workers, progress)
    atomic_files.replace_text(Path(root) / LABELS, labels_table(planned))
    return planned
