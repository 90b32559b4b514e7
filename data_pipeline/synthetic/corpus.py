"""Synthetic corpora in the layouts of VoxCeleb2 and CREMA-D: which clip has which name."""

import dataclasses
import os
from pathlib import Path

from data_pipeline.synthetic.clip import FPS, ClipSpec, stream
from data_pipeline.synthetic.difficulty import Difficulty
from data_pipeline.synthetic.person import EMOTIONS
from data_pipeline.synthetic.speech import SENTENCES
from data_pipeline.synthetic.writing import CorpusError, PlannedClip, write_planned

CLIPS_PER_VIDEO = 3
VIDEO_NAME = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
LEVELS = {"LO": 0.5, "MD": 0.8, "HI": 1.2, "XX": 1.0}  # CREMA-D's intensities; XX is unspecified


def check_numbers(clips: int, speakers: int, seconds: tuple[float, float]) -> None:
    """Refuses a corpus of fewer than two speakers or clips than speakers, and durations out of order.

    Raises:
        CorpusError: one of these.
    """
    if speakers < 2 or clips < speakers:
        raise CorpusError(
            f"{clips} clips of {speakers} speakers: at least 2 speakers with a clip each are needed"
        )
    if not 0.5 <= seconds[0] <= seconds[1]:
        raise CorpusError(f"clip durations {seconds} s: give the shortest (0.5 or more) and then the longest")


def plan_voxceleb2(
    clips: int,
    speakers: int,
    seed: int,
    seconds: tuple[float, float],
    noise: float,
    test_speakers: int | None = None,
    difficulty: Difficulty | None = None,
) -> list[PlannedClip]:
    """Lists a corpus in VoxCeleb2's layout: ``dev/mp4/id00012/<video>/00001.mp4`` and ``dev/aac/….m4a``.

    The speakers get clips in turn, three in each video. The last speakers are the ``test`` split: by default
    a tenth of them, at least one. Mood and duration are drawn for each clip, the scene for each video.
    """
    check_numbers(clips, speakers, seconds)
    n_test = max(1, speakers // 10) if test_speakers is None else test_speakers
    if not 0 <= n_test < speakers:
        raise CorpusError(
            f"{n_test} of {speakers} speakers cannot be the test split: leave at least one for dev"
        )
    first_test = speakers - n_test
    planned = []
    for index in range(clips):
        number, speaker = divmod(index, speakers)
        video, take = divmod(number, CLIPS_PER_VIDEO)
        rng = stream(seed, "voxceleb2/plan", speaker, video, take)
        moods = {name: 0.4 if name == "NEU" else 0.12 for name in EMOTIONS}
        spec = ClipSpec(
            seed=seed,
            corpus="voxceleb2",
            speaker=speaker,
            recording=video,
            take=take,
            emotion=str(rng.choice(list(moods), p=list(moods.values()))),
            intensity=float(rng.uniform(0.6, 1.1)),
            seconds=round(rng.uniform(*seconds) * FPS) / FPS,
            noise=noise,
            studio=False,
            difficulty=difficulty,
        )
        letters = stream(seed, "voxceleb2/name", speaker, video).choice(list(VIDEO_NAME), 11)
        split = "test" if speaker >= first_test else "dev"
        name = f"id{speaker + 12:05d}/{''.join(letters)}/{take + 1:05d}"
        planned.append(PlannedClip(spec, f"{split}/mp4/{name}.mp4", f"{split}/aac/{name}.m4a"))
    return planned


def plan_crema_d(clips: int, actors: int, seed: int, noise: float) -> list[PlannedClip]:
    """Lists a corpus in CREMA-D's layout: ``VideoFlash/1001_DFA_ANG_XX.flv`` and ``AudioWAV/….wav``.

    As in CREMA-D, an actor has at most 82 clips: eleven sentences in six moods, and the sentence IEO in
    neutral and in three intensities of the other five moods. The actors get clips in turn: all moods of a
    sentence, then the next sentence. Each actor starts with another sentence, so that a small corpus is
    balanced, too.
    """
    if actors < 1 or not actors <= clips <= 82 * actors:
        raise CorpusError(
            f"{clips} clips of {actors} actors: each has at least 1 clip and, as in CREMA-D, at most 82"
        )
    sentences = list(SENTENCES)
    planned = []
    for index in range(clips):
        number, actor = divmod(index, actors)
        turn = actor % len(sentences)
        script = [
            (sentence, emotion, level)
            for sentence in sentences[turn:] + sentences[:turn]
            for level in (("HI", "MD", "LO") if sentence == "IEO" else ("XX",))
            for emotion in EMOTIONS
            if emotion != "NEU" or level in ("XX", "HI")
        ]
        sentence, emotion, level = script[number]
        level = "XX" if emotion == "NEU" else level
        spec = ClipSpec(
            seed=seed,
            corpus="crema_d",
            speaker=1001 + actor,
            recording=0,
            take=number,
            emotion=emotion,
            intensity=LEVELS[level],
            sentence=sentence,
            noise=noise,
        )
        name = f"{1001 + actor}_{sentence}_{emotion}_{level}"
        planned.append(PlannedClip(spec, f"VideoFlash/{name}.flv", f"AudioWAV/{name}.wav"))
    return planned


def write_voxceleb2(
    root: str | os.PathLike[str],
    clips: int = 200,
    speakers: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    seconds: tuple[float, float] = (4.0, 10.0),
    noise: float = ClipSpec.noise,
    progress: bool = False,
    test_speakers: int | None = None,
    difficulty: Difficulty | None = None,
) -> list[PlannedClip]:
    """Writes, or completes, a synthetic corpus in VoxCeleb2's layout.

    Args:
        root: its directory: new, empty, or with the files of an earlier call with the same arguments.
        clips: number of clips.
        speakers: number of speakers; by default one for every eight clips, at least two.
        seed: of all random draws.
        workers: number of processes; by default one a core. 1 uses this process.
        seconds: shortest and longest clip.
        noise: standard deviation of the camera's noise, 0–255 units.
        progress: whether to show a progress bar.
        test_speakers: number of speakers in the ``test`` split; by default a tenth, at least one.
        difficulty: what makes emotions hard to tell, as in `made_up`; None for clear ones.

    Returns:
        The clips with their files.

    Raises:
        CorpusError: `root` holds something else, or the numbers do not fit each other.
    """
    speakers = speakers or max(2, -(-clips // 8))
    planned = plan_voxceleb2(clips, speakers, seed, seconds, noise, test_speakers, difficulty)
    wish = dict(
        layout="voxceleb2", clips=clips, speakers=speakers, seed=seed, seconds=list(seconds), noise=noise
    )
    if test_speakers is not None:  # absent by default, as in corpora from before this argument existed
        wish["test_speakers"] = test_speakers
    if difficulty is not None:
        wish["difficulty"] = dataclasses.asdict(difficulty)
    write_planned(Path(root), planned, wish, workers, progress)
    return planned


def write_crema_d(
    root: str | os.PathLike[str],
    clips: int = 240,
    actors: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    noise: float = ClipSpec.noise,
    progress: bool = False,
) -> list[PlannedClip]:
    """Writes, or completes, a synthetic labelled corpus in CREMA-D's layout.

    An actor has at most 82 clips; by default there is one actor for every twelve clips (two sentences in six
    moods).
    The other arguments, the result and the errors are those of `write_voxceleb2`.
    """
    actors = actors or -(-clips // 12)
    planned = plan_crema_d(clips, actors, seed, noise)
    wish = dict(layout="crema_d", clips=clips, actors=actors, seed=seed, noise=noise)
    write_planned(Path(root), planned, wish, workers, progress)
    return planned
