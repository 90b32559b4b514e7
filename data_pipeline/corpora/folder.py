"""Finds the clips in any tree of videos.

A video of any kind that can be read is a clip. Its name is its path from the input without the suffix. Its
sound is a file of the same stem beside it, or in a directory of sounds beside its own, as in
``video/id1/a.mp4`` and ``audio/id1/a.wav``; without one, the sound is a track of the video.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence

from etils import epath
from tqdm import tqdm

from data_pipeline.corpora import passed_over
from data_pipeline.corpora.clip_files import ClipFiles, Clips, InputFile, check_name
from data_pipeline.corpora.tree import suffix_rank, walk
from data_pipeline.media.containers import SOUNDS, VIDEOS
from data_pipeline.media.inputs import PICTURE_FOLDERS, SOUND_FOLDERS

ALONE = "sounds without a video"


def find_clips(inputs: Sequence[epath.Path]) -> Clips:
    """Find all videos below some directories, and show progress meanwhile.

    With several inputs, the name of a clip begins with the name of its input's directory.

    Raises:
        FileNotFoundError: an input is no directory.
        ValueError: there is no video, two inputs have one name, or the name of a file cannot be stored.
        OSError: a directory cannot be listed.
    """
    for root in inputs:
        if not root.is_dir():
            raise FileNotFoundError(f"{root} is not a directory: --input must be a directory of videos")
    names = [os.path.basename(os.path.abspath(root)) for root in inputs]
    if doubled := sorted(name for name in set(names) if names.count(name) > 1):
        raise ValueError(
            f"two inputs are named {doubled[0]}, and names of clips begin with it: rename one directory"
        )
    counts: Counter[str] = Counter()
    clips: list[ClipFiles] = []
    with tqdm(desc="listing", unit="file") as bar:
        for source, root in enumerate(inputs):
            prefix = f"{names[source]}/" if len(inputs) > 1 else ""
            clips += _clips_of(source, root, prefix, counts, bar)
    where = ", ".join(map(os.fspath, inputs))
    if not clips:
        kinds = " ".join(VIDEOS)
        raise ValueError(f"{where} holds no video ({kinds}), but {passed_over.describe(+counts)}")
    clips.sort()
    alone = sum(clip.audio is None for clip in clips)
    sound = f"{len(clips) - alone:,} with a file of sound, {alone:,} with sound inside"
    return Clips(clips, dict(+counts), f"videos of {where}: {sound}")


def _clips_of(source: int, root: epath.Path, prefix: str, counts: Counter[str], bar: tqdm) -> list[ClipFiles]:
    videos: dict[str, str] = {}  # path without suffix → suffix
    sounds: dict[str, str] = {}
    unfinished: set[str] = set()
    for place, not_entered, files in walk(root, lambda _, name: passed_over.kind_of(name) is None):
        counts.update(passed_over.kind_of(name) or passed_over.MISPLACED for name in not_entered)
        for name in sorted(files):
            counts.update(_sort_in(place, name, videos, sounds))
            if clip := passed_over.downloaded_clip(name, (*VIDEOS, *SOUNDS)):
                unfinished.add(os.path.join(place, clip))
        bar.update(len(files))
    used: set[str] = set()
    clips = []
    for stem, suffix in videos.items():
        sound = _sound_of(stem, sounds)
        if sound is not None:
            used.add(sound)
        if stem in unfinished or sound in unfinished:
            counts[passed_over.UNFINISHED_CLIP] += 1
            continue
        check_name(prefix + stem, os.fspath(root))
        audio = None if sound is None else InputFile(source, sound + sounds[sound])
        clips.append(ClipFiles(prefix + stem, InputFile(source, stem + suffix), audio))
    counts[ALONE] += len(sounds.keys() - used)
    return clips


def _sort_in(place: str, name: str, videos: dict[str, str], sounds: dict[str, str]) -> list[str]:
    """Add a file to the videos or to the sounds; return the kind of one that is passed over."""
    if kind := passed_over.kind_of(name):
        return [kind]
    stem, suffix = os.path.splitext(os.path.join(place, name))
    for suffixes, found in ((VIDEOS, videos), (SOUNDS, sounds)):
        if suffix.lower() in suffixes:
            second = stem in found
            if not second or suffix_rank(suffix, suffixes) < suffix_rank(found[stem], suffixes):
                found[stem] = suffix
            return [passed_over.SECOND] * second
    return [passed_over.other_kind(name)]


def _sound_of(stem: str, sounds: Mapping[str, str]) -> str | None:
    """The sound of a video, both as paths without suffixes; None if there is none."""
    if stem in sounds:
        return stem
    parts = stem.split(os.sep)
    for place, part in enumerate(parts[:-1]):
        if part.lower() in PICTURE_FOLDERS:
            for other in SOUND_FOLDERS:
                beside = os.sep.join([*parts[:place], other, *parts[place + 1 :]])
                if beside in sounds:
                    return beside
    return None
