"""Reads annotation lists: a line a clip, ``<face frames' directory> <sound> <label …>``.

The published lists have such lines. The first path may also be that of a video. Fields are separated by
spaces. A label is a class by name or by its number in the protocol (from 0), or one number for each
dimension, in the protocol's order. Relative paths are below the input directory. A list written on another
machine is read with rewritten beginnings of its paths.
"""

import os
from collections.abc import Sequence
from typing import NamedTuple

from etils import epath

from data_pipeline.corpora.clip_names import name_in_path, told_or_refuse
from data_pipeline.corpora.found_clip import FoundClip
from data_pipeline.corpora.protocols import Protocol
from data_pipeline.media.face_clip import VIDEOS


class Rewrite(NamedTuple):
    """How the beginning of a path is rewritten.

    Attributes:
        old: beginning of a path in the list.
        new: what replaces it.
    """

    old: str
    new: str


def parse_rewrite(text: str) -> Rewrite:
    """Reads ``OLD=NEW``.

    Raises:
        ValueError: there is no ``=``, or nothing before it.
    """
    old, sign, new = text.partition("=")
    if not (old and sign):
        raise ValueError(f"--path_rewrite={text} is not OLD=NEW, the old and the new beginning of paths")
    return Rewrite(old, new)


def read_list(
    path: epath.Path, protocol: Protocol, root: epath.Path, rewrites: Sequence[Rewrite] = ()
) -> list[FoundClip]:
    """Reads an annotation list.

    Args:
        path: of the list.
        protocol: what the labels are of.
        root: directory that relative paths are below.
        rewrites: the first one whose old beginning a path has is applied.

    Returns:
        The clips, in the order of the lines, without folds.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line cannot be understood.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing: give the path of an annotation list") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a list in UTF-8: {error}") from error
    clips = []
    for number, line in enumerate(lines, start=1):
        where = f"{path}, line {number}"
        fields = line.split()
        if not fields:
            continue
        n_labels = len(protocol.outputs) if protocol.regression else 1
        if len(fields) != 2 + n_labels:
            raise ValueError(
                f"{where} has {len(fields)} fields; it must have a directory of face frames or a video, a "
                f"file of sound and {n_labels} labels, separated by spaces"
            )
        picture, sound = (_place(field, root, rewrites) for field in fields[:2])
        clips.append(_clip(protocol, picture, sound, _labels(protocol, fields[2:], where), where))
    if not clips:
        raise ValueError(f"{path} lists no clip: give an annotation list")
    return clips


def _clip(
    protocol: Protocol, picture: str, sound: str, labels: dict[str, str | float], where: str
) -> FoundClip:
    name = name_in_path(protocol.dataset, picture)
    speaker, _ = told_or_refuse(protocol.dataset, name, where)
    is_video = picture.lower().endswith(VIDEOS)
    return FoundClip(
        name=name,
        speaker=speaker,
        labels=labels,
        folds={},
        frames=None if is_video else picture,
        video=picture if is_video else None,
        audio=None if sound == picture else sound,
    )


def _place(field: str, root: epath.Path, rewrites: Sequence[Rewrite]) -> str:
    for old, new in rewrites:
        if field.startswith(old):
            field = new + field[len(old) :]
            break
    return os.path.join(os.fspath(root), os.path.expanduser(field))


def _labels(protocol: Protocol, words: list[str], where: str) -> dict[str, str | float]:
    """Reads the labels of a line."""
    if protocol.regression:
        try:
            return {name: float(word) for name, word in zip(protocol.outputs, words, strict=True)}
        except ValueError as error:
            raise ValueError(f"{where}: {' '.join(words)} are not numbers: {error}") from error
    (word,) = words
    if word in (*protocol.outputs, *protocol.merged, *protocol.left_out):
        return {protocol.label: word}
    if word.isdecimal() and int(word) < protocol.n_outputs:
        # Numbers of unlisted classes are filled with zeros, so that sorted names have the order of numbers.
        named = protocol.outputs[int(word)] if protocol.outputs else f"{int(word):02d}"
        return {protocol.label: named}
    if not protocol.outputs and not word.isdecimal():
        return {protocol.label: word}
    known = ", ".join(protocol.outputs) or f"{protocol.n_outputs} classes"
    raise ValueError(
        f"{where}: {word} is no class of {protocol.name} ({known}), nor a number below {protocol.n_outputs}"
    )
