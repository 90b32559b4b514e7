"""Finds the clips that lists name: CSV, TSV and JSON lines with named columns, and annotation lines.

A table has a column of videos, and may have columns of sounds, of begins and ends in seconds, of ids and of
groups (see `COLUMNS`). A line of any other list is ``<video> [<sound>] [<label …>]``, separated by spaces, as
published lists have it; labels are not read here, because no pre-training needs them.

A relative path is below the root, by default the directory of its list. The name of a clip is its id, or the
path of its video without the suffix; with a group it begins with that, and with a begin or an end it ends
with both: ``group/id@12.00-20.00``.
"""

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from etils import epath
from tqdm import tqdm

from data_pipeline.common.threads import in_threads
from data_pipeline.corpora.clip_files import ClipFiles, Clips, InputFile, check_name
from data_pipeline.media.containers import SOUNDS, VIDEOS

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "video": ("video", "path", "file", "filename", "filepath", "file_path", "video_path"),
    "audio": ("audio", "sound", "wav", "audio_path"),
    "begin": ("begin", "start", "start_time", "start_seconds", "onset"),
    "end": ("end", "stop", "end_time", "end_seconds", "offset"),
    "id": ("id", "name", "clip", "clip_id", "uid"),
    "group": ("group", "speaker", "speaker_id", "corpus"),
    "label": ("label", "labels", "emotion", "class"),
}
"""Meaning of a column → the names that it may have, in small letters."""
TABLES = {".csv": ",", ".tsv": "\t"}
JSON_LINES = (".jsonl", ".ndjson")
_LOOKUPS = 32  # files that are looked up at a time: a network file system takes milliseconds for each
_SHOWN = 3


class Row(NamedTuple):
    """A line of a list.

    Attributes:
        where: the list and the number of the line, for messages.
        fields: meaning of a column (`COLUMNS`) → its text, without empty ones.
    """

    where: str
    fields: Mapping[str, str]


def find_clips(lists: Sequence[epath.Path], root: epath.Path | None, most_missing: float) -> Clips:
    """Read lists and look up their files; show progress meanwhile.

    Args:
        lists: files; the kind follows from the suffix.
        root: directory of relative paths; None: that of each list.
        most_missing: largest share of clips with a missing file; fewer ones are rejected clips of the set.

    Raises:
        FileNotFoundError: a list is missing, or more files than that.
        ValueError: a line cannot be understood, or two clips have one name.
    """
    clips: list[ClipFiles] = []
    lines: dict[str, str] = {}  # name → where it was listed
    with tqdm(desc="reading lists", unit="clip") as bar:
        for source, path in enumerate(lists):
            for row in read_rows(path):
                clip = clip_of(row, source)
                if clip.name in lines:
                    other = lines[clip.name]
                    raise ValueError(
                        f"{row.where}: {clip.name} is listed in {other} too: give ids in a column id"
                    )
                lines[clip.name] = row.where
                clips.append(clip)
                bar.update()
    if not clips:
        raise ValueError(f"{', '.join(map(os.fspath, lists))}: no clip is listed")
    clips.sort()
    directories = roots_of(lists, root)
    missing = _missing(clips, directories)
    share = len(missing) / len(clips)
    said = f"{len(missing):,} of {len(clips):,} listed clips have a missing file"
    if share > most_missing:
        shown = ", ".join(missing[:_SHOWN])
        raise FileNotFoundError(
            f"{said}, for example {shown}: give the directory of relative paths by --root, or allow it by "
            "--max_rejected_share"
        )
    found = f"{len(clips):,} clips of {', '.join(map(os.fspath, lists))}" + (f"; {said}" if missing else "")
    return Clips(clips, {}, found)


def roots_of(lists: Sequence[epath.Path], root: epath.Path | None) -> list[str]:
    """The directory of relative paths of each list."""
    return [os.fspath(root or path.parent) for path in lists]


def read_rows(path: epath.Path) -> Iterator[Row]:
    """Yield the lines of a list that are not empty.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no text in UTF-8, has no column of videos, or a line cannot be understood.
    """
    suffix = path.suffix.lower()
    try:
        newline = "" if suffix in TABLES else None  # as `csv` needs it
        with path.open("rb") as stored, io.TextIOWrapper(stored, "utf-8-sig", newline=newline) as file:
            if suffix in TABLES:
                yield from _table(path, file, TABLES[suffix])
            elif suffix in JSON_LINES:
                yield from _json_lines(path, file)
            else:
                yield from _annotations(path, file)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing: give the path of a list of clips") from None
    except IsADirectoryError:
        raise ValueError(f"{path} is a directory: --layout=list takes a file that lists clips") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a list in UTF-8: {error}") from error
    except csv.Error as error:
        raise ValueError(f"{path} is not a table: {error}") from error


def clip_of(row: Row, source: int) -> ClipFiles:
    """The clip of a line.

    Args:
        row: the line.
        source: number of the list.

    Raises:
        ValueError: its begin or end is no time, or its name cannot be stored.
    """
    video = row.fields.get("video")
    if video is None:
        raise ValueError(f"{row.where} names no video")
    stem, suffix = os.path.splitext(video)
    if suffix.lower() not in VIDEOS:
        raise ValueError(f"{row.where}: {video} is no video ({' '.join(VIDEOS)})")
    span = _span(row)
    name = row.fields.get("id", os.path.normpath(stem).lstrip(os.sep))
    if "group" in row.fields:
        name = f"{row.fields['group']}/{name}"
    if span is not None:
        name = span_name(name, span)
    check_name(name, row.where)
    audio = row.fields.get("audio")
    sound = None if audio in (None, video) else InputFile(source, os.path.expanduser(audio or ""))
    return ClipFiles(name, InputFile(source, os.path.expanduser(video)), sound, span)


def span_name(name: str, span: tuple[float, float]) -> str:
    """The name of a part of a recording: it says where it begins and ends, in s."""
    return f"{name}@{span[0]:.2f}-{span[1]:.2f}"


def _span(row: Row) -> tuple[float, float] | None:
    if "begin" not in row.fields and "end" not in row.fields:
        return None
    try:
        begin, end = float(row.fields.get("begin", 0)), float(row.fields["end"])
    except KeyError:
        raise ValueError(f"{row.where} has a begin but no end: give both in seconds") from None
    except ValueError as error:
        raise ValueError(f"{row.where}: begin and end must be seconds: {error}") from None
    if not 0 <= begin < end < float("inf"):
        raise ValueError(f"{row.where}: begin {begin:g} s and end {end:g} s are no part of a recording")
    return begin, end


def _table(path: epath.Path, file: Any, delimiter: str) -> Iterator[Row]:
    reader = csv.DictReader(file, delimiter=delimiter)
    columns = _columns(path, reader.fieldnames or ())
    for values in reader:
        yield _row(f"{path}, line {reader.line_num}", columns, values)


def _json_lines(path: epath.Path, file: Any) -> Iterator[Row]:
    for number, line in enumerate(file, start=1):
        where = f"{path}, line {number}"
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{where} is no JSON: {error}") from None
        if not isinstance(values, dict):
            raise ValueError(f"{where} is no JSON object")
        yield _row(where, _columns(path, list(values)), values)


def _annotations(path: epath.Path, file: Any) -> Iterator[Row]:
    for number, line in enumerate(file, start=1):
        words = line.split()
        if not words or line.startswith("#"):
            continue
        fields = {"video": words[0]}
        if len(words) > 1 and os.path.splitext(words[1])[1].lower() in (*SOUNDS, *VIDEOS):
            fields["audio"] = words[1]
        yield Row(f"{path}, line {number}", fields)


def _columns(path: epath.Path, names: Sequence[str]) -> dict[str, str]:
    """Meaning of each known column → its name in a table."""
    known = {}
    for meaning, spellings in COLUMNS.items():
        named = [name for name in names if name and name.strip().lower() in spellings]
        if len(named) > 1:
            raise ValueError(f"{path}: the columns {' and '.join(named)} both mean {meaning}: remove one")
        if named:
            known[meaning] = named[0]
    if "video" not in known:
        there = ", ".join(name for name in names if name) or "nothing"
        raise ValueError(
            f"{path}: the first line names no column video but {there}: name the columns video, audio, "
            "begin, end, id or group"
        )
    return known


def _row(where: str, columns: Mapping[str, str], values: Mapping[str, Any]) -> Row:
    texts = {
        meaning: str(values[name]).strip()
        for meaning, name in columns.items()
        if values.get(name) is not None
    }
    return Row(where, {meaning: text for meaning, text in texts.items() if text})


def _missing(clips: Sequence[ClipFiles], roots: Sequence[str]) -> list[str]:
    """The files that are not there, one of each clip, in the order of the clips."""

    def missing(clip: ClipFiles) -> str | None:
        for file in (clip.video, clip.audio):
            if file is not None and not (path := file.within(roots)).exists():
                return os.fspath(path)
        return None

    found = in_threads(missing, clips, _LOOKUPS, "looking up", "clip")
    return [path for path in found if path is not None]
