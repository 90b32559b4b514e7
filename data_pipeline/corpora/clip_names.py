"""What the names of clips tell: the clip's name in its path, the speaker or session, and the label.

Each rule is that of the data set's own naming. Data sets that are not here have names that tell nothing.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import NamedTuple

RAVDESS_EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
"""Emotion codes 01 to 08 of RAVDESS."""

_ALIGNED = "_aligned"
"""Ending of a directory of face frames that OpenFace has made."""


class Told(NamedTuple):
    """What a name tells.

    Attributes:
        speaker: the speaker or session.
        emotion: the label; "" if the name does not tell it.
    """

    speaker: str
    emotion: str


def _crema_d(name: str) -> Told | None:
    found = re.fullmatch(r"(\d{4})_[A-Z]{3}_(ANG|DIS|FEA|HAP|NEU|SAD)_[A-Z]{1,2}", name)
    return found and Told(found[1], found[2])


def _ravdess(name: str) -> Told | None:
    found = re.fullmatch(r"Actor_(\d\d)/0[1-3]-01-(0[1-8])-\d\d-\d\d-\d\d-\1", name)
    return found and Told(found[1], RAVDESS_EMOTIONS[int(found[2]) - 1])


def _msp_improv(name: str) -> Told | None:
    """The sentence, the speaker's sex and session, the kind of scene, and the turn."""
    found = re.fullmatch(r"MSP-IMPROV-S\d\d[AHNS]-[FM](0[1-6])-[A-Z]-[FM]{2}\d+", name)
    return found and Told(f"session{int(found[1])}", "")


def _iemocap(name: str) -> Told | None:
    found = re.fullmatch(r"Ses0([1-5])[FM]_(?:impro|script)\w+_[FM]\w?\d+", name)
    return found and Told(f"session{found[1]}", "")


def _werewolf_xl(name: str) -> Told | None:
    found = re.fullmatch(r"(\d\d)_\w+", name)
    return found and Told(found[1], "")


def _avcaffe(name: str) -> Told | None:
    """The first field of a name is the subject."""
    fields = name.split("_")
    return Told(fields[0], "") if len(fields) > 3 and fields[0] else None


_RULES: Mapping[str, tuple[Callable[[str], Told | None], str]] = {
    "crema_d": (_crema_d, "1001_DFA_ANG_XX"),
    "ravdess": (_ravdess, "Actor_01/02-01-01-01-01-01-01"),
    "msp_improv": (_msp_improv, "MSP-IMPROV-S01A-F02-P-FM01"),
    "iemocap": (_iemocap, "Ses01F_impro05_F019"),
    "werewolf_xl": (_werewolf_xl, "01_01_128"),
    "avcaffe": (_avcaffe, "subject_task_1_clip"),
}
"""Data set → its rule, and an example of a name."""


def told(dataset: str, name: str) -> Told | None:
    """Returns what the name of a clip tells.

    Args:
        dataset: name of the data set.
        name: of the clip.

    Returns:
        The speaker and the label; both "" where the data set's names tell nothing; None if the name is not
        one of the data set.
    """
    return _RULES[dataset][0](name) if dataset in _RULES else Told("", "")


def told_or_refuse(dataset: str, name: str, where: str) -> Told:
    """Returns what `told` returns.

    Args:
        dataset: name of the data set.
        name: of the clip.
        where: what names it, for the message.

    Raises:
        ValueError: the name is not one of the data set.
    """
    found = told(dataset, name)
    if found is None:
        raise ValueError(
            f"{where}: {name!r} is not the name of a clip of {dataset}, such as {_RULES[dataset][1]}: "
            "correct it"
        )
    return found


def name_in_path(dataset: str, path: str) -> str:
    """Returns the name of a clip in the path of its directory of face frames or of its video.

    Args:
        dataset: name of the data set.
        path: such as ``/data/openface/01_01_128/01_01_128_aligned`` or ``/data/1001_DFA_ANG_XX.mp4``.
    """
    parts = PurePath(path)
    name = re.sub(r"\.(mp4|avi|flv|mov)$", "", parts.name, flags=re.IGNORECASE).removesuffix(_ALIGNED)
    if dataset == "ravdess":  # the published names have the actor's directory
        return f"{parts.parent.name}/{name}"
    return name
