"""Made-up corpora on disk, in the layouts of VoxCeleb2 and of CREMA-D, written by a pool of processes.

A corpus is planned first (which clip under which name), then every missing clip is written: the files are
the same for any number of processes, and a run that was killed is completed by the same call.
"""

import json
import os
from collections.abc import Iterator
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

from tqdm import tqdm

from data_pipeline.common.worker_processes import submit_all, worker_pool
from data_pipeline.media.encode import write_m4a, write_mp4, write_wav
from data_pipeline.synthetic.clip import FPS, ClipSpec, make_clip, stream
from data_pipeline.synthetic.person import EMOTIONS
from data_pipeline.synthetic.speech import SENTENCES

NOTE = "synthetic_corpus.json"  # marks a directory as ours and says what is meant to be in it
CLIPS_PER_VIDEO = 3
VIDEO_NAME = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
LEVELS = {"LO": 0.5, "MD": 0.8, "HI": 1.2, "XX": 1.0}  # CREMA-D's intensities; XX is unspecified


class CorpusError(ValueError):
    """A corpus cannot be written where or as asked; the message is one line that says how to mend it."""


@dataclass(frozen=True)
class PlannedClip:
    """A clip and the files, relative to the corpus, that hold it."""

    spec: ClipSpec
    video: str
    sound: str


def plan_voxceleb2(
    clips: int,
    speakers: int,
    seed: int,
    seconds: tuple[float, float],
    noise: float,
    test_speakers: int | None = None,
) -> list[PlannedClip]:
    """Lists a corpus in VoxCeleb2's layout: ``dev/mp4/id00012/<video>/00001.mp4`` and ``dev/aac/….m4a``.

    Clips are dealt to the speakers in turn, three to a video; the last speakers, by default a tenth of them
    and at least one, are the ``test`` split. Mood and duration are drawn for each clip,
    the scene for each video.
    """
    if speakers < 2 or clips < speakers:
        raise CorpusError(
            f"{clips} clips of {speakers} speakers: at least 2 speakers with a clip each are needed"
        )
    if not 0.5 <= seconds[0] <= seconds[1]:
        raise CorpusError(f"clip durations {seconds} s: give the shortest (0.5 or more) and then the longest")
    n_test = max(1, speakers // 10) if test_speakers is None else test_speakers
    if not 0 <= n_test < speakers:
        raise CorpusError(f"{n_test} of {speakers} speakers cannot be the test split: at least one trains")
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
        )
        letters = stream(seed, "voxceleb2/name", speaker, video).choice(list(VIDEO_NAME), 11)
        split = "test" if speaker >= first_test else "dev"
        name = f"id{speaker + 12:05d}/{''.join(letters)}/{take + 1:05d}"
        planned.append(PlannedClip(spec, f"{split}/mp4/{name}.mp4", f"{split}/aac/{name}.m4a"))
    return planned


def plan_crema_d(clips: int, actors: int, seed: int, noise: float) -> list[PlannedClip]:
    """Lists a corpus in CREMA-D's layout: ``VideoFlash/1001_DFA_ANG_XX.flv`` and ``AudioWAV/….wav``.

    As in CREMA-D an actor has at most 82 clips: eleven sentences in six moods, and IEO in three intensities
    of the five that are not neutral. Clips are dealt to the actors in turn, sentence by sentence with all its
    moods, each actor starting with another sentence, so that a small corpus is balanced too.
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
) -> list[PlannedClip]:
    """Writes, or completes, a made-up corpus in VoxCeleb2's layout.

    Args:
        root: its directory; must be new, empty, or hold an earlier run of the same call.
        clips: how many.
        speakers: how many; by default one for every eight clips, at least two.
        seed: of everything drawn.
        workers: processes; by default one a core. 1 stays in this process.
        seconds: shortest and longest clip.
        noise: standard deviation of the camera's noise, 0–255 units.
        progress: whether to show a progress bar.
        test_speakers: how many speakers are the ``test`` split; by default a tenth, at least one.

    Returns:
        the clips with their files, relative to ``root``.

    Raises:
        CorpusError: if ``root`` holds something else, or the numbers do not fit each other.
    """
    speakers = speakers or max(2, -(-clips // 8))
    planned = plan_voxceleb2(clips, speakers, seed, seconds, noise, test_speakers)
    wish = dict(
        layout="voxceleb2", clips=clips, speakers=speakers, seed=seed, seconds=list(seconds), noise=noise
    )
    if test_speakers is not None:  # absent otherwise, as it is in corpora begun before it could be chosen
        wish["test_speakers"] = test_speakers
    _write(Path(root), planned, wish, workers, progress)
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
    """Writes, or completes, a made-up labelled corpus in CREMA-D's layout.

    An actor has at most 82 clips; by default there is one for every twelve (two sentences in six moods).
    The other arguments, the result and the errors are those of `write_voxceleb2`.
    """
    actors = actors or -(-clips // 12)
    planned = plan_crema_d(clips, actors, seed, noise)
    wish = dict(layout="crema_d", clips=clips, actors=actors, seed=seed, noise=noise)
    _write(Path(root), planned, wish, workers, progress)
    return planned


def _write(root: Path, planned: list[PlannedClip], wish: dict, workers: int | None, progress: bool) -> None:
    _claim(root, wish)
    missing = [clip for clip in planned if not _is_there(root, clip)]
    tasks = list(_tasks(missing))
    workers = min(workers or os.cpu_count() or 1, max(1, len(tasks)))
    with tqdm(
        total=len(planned), initial=len(planned) - len(missing), unit="clip", disable=not progress
    ) as bar:
        if workers == 1:
            for task in tasks:
                for clip in task:
                    _write_clips(root, [clip])
                    bar.update()
            return
        with worker_pool(workers) as pool:
            try:
                for future in as_completed(submit_all(pool, partial(_write_clips, root), tasks)):
                    bar.update(future.result())
            except BrokenProcessPool:
                raise CorpusError(
                    f"{root}: a worker process died (out of memory?); run the same again with fewer workers"
                ) from None
            finally:
                pool.shutdown(cancel_futures=True)


def _claim(root: Path, wish: dict) -> None:
    """Makes the directory ours, or refuses it."""
    note = root / NOTE
    if note.exists():
        try:
            there = json.loads(note.read_text())
        except ValueError as error:
            raise CorpusError(f"{note} is damaged ({error}): give another directory") from error
        if there != wish:
            raise CorpusError(
                f"{root} holds another made-up corpus ({there}); give another directory, or the same values"
            )
        return
    temporary = note.with_suffix(".part")  # alone in a directory if a first run was killed at once
    if root.exists() and (not root.is_dir() or any(path != temporary for path in root.iterdir())):
        raise CorpusError(f"{root} is not empty and not a made-up corpus; give a new or empty directory")
    root.mkdir(parents=True, exist_ok=True)
    temporary.write_text(json.dumps(wish) + "\n")
    temporary.replace(note)


def _is_there(root: Path, clip: PlannedClip) -> bool:
    return (root / clip.video).exists() and (root / clip.sound).exists()


def _tasks(planned: list[PlannedClip]) -> Iterator[list[PlannedClip]]:
    """Groups clips of one recording, which share a portrait, six at most."""
    key = lambda clip: (clip.spec.speaker, clip.spec.recording)  # noqa: E731
    for _, group in groupby(sorted(planned, key=key), key):
        clips = list(group)
        yield from (clips[start : start + 6] for start in range(0, len(clips), 6))


def _write_clips(root: Path, clips: list[PlannedClip]) -> int:
    """Writes clips, each file under a temporary name first, so that a file that is there is whole."""
    for clip in clips:
        frames, samples = make_clip(clip.spec)
        for name in (clip.sound, clip.video):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".part-{path.name}")
            if path.suffix == ".m4a":
                write_m4a(temporary, samples)
            elif path.suffix == ".wav":
                write_wav(temporary, samples)
            else:
                write_mp4(temporary, frames, FPS, samples=samples if path.suffix == ".flv" else None)
            temporary.replace(path)
    return len(clips)
