"""The plan of a prepared set: which clip goes into which shard.

The plan is written once, before any shard. Every process that makes a shard reads it, so that a shard is the
same whichever process makes it. The plan is ``plan.json`` and, for shard `i`, its clips in
``plan/<i>.jsonl``, a line of `corpora.clip_files` each. Clips are sorted by a hash of seed and name, which is
the same on every machine. The names of the clips must stay; their files may change, so that a clip can be
repaired: the lists are written again if they do.
"""

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from absl import logging
from etils import epath
from tqdm import tqdm

from data_pipeline.common import atomic_files
from data_pipeline.corpora import clip_files
from data_pipeline.corpora.clip_files import ClipFiles
from data_pipeline.corpora.layouts import VOXCELEB2, Corpus
from data_pipeline.format import records
from data_pipeline.format.prepared_set import PLAN, VIDEO, shard_file
from data_pipeline.media import decode as media
from data_pipeline.media.limits import MAX_SECONDS

_LISTS = "plan"
_MEASURED_CLIPS = 8  # usable clips whose mean size decides how many clips a shard gets
_CLIPS_TRIED = 32  # clips that are tried to find these
_FEWEST_SHARDS = 8  # so that several processes can prepare even a small set
_SHARD_MB = 768.0
_OPEN_FILES = 1_024  # that a process may have on most systems
_MOST_SHARDS = (_OPEN_FILES - 256) // 2  # pairs; training keeps all open, and 256 other files
_LONGEST_FILE_NAME = 255  # bytes, on most file systems


@dataclasses.dataclass(frozen=True)
class Options:
    """The user's choices.

    Attributes:
        split: part of the names of files and of TFDS, such as ``dev``; the directory of VoxCeleb2 to prepare.
        crop: the part of each frame to keep.
        shard_mb: approximate size of a shard of video, in 10⁶ bytes. None: 768, or more if the set would
            otherwise need more open files than most systems allow.
        seed: of the order of clips.
        clip_seconds: length of the clips into which recordings are cut, in s; None: they are not cut.

    Raises:
        ValueError: a split that no file or TFDS split can be named after, or a number that is not above 0.
    """

    split: str = "dev"
    crop: media.Part = dataclasses.field(default_factory=media.Crop)
    shard_mb: float | None = None
    seed: int = 0
    clip_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.shard_mb is not None and not 0 < self.shard_mb < math.inf:
            raise ValueError(f"shard_mb must be above 0, got {self.shard_mb:g}")
        if self.clip_seconds is not None and not 1 <= self.clip_seconds <= MAX_SECONDS:
            raise ValueError(f"clip_seconds must be from 1 to {MAX_SECONDS}, but is {self.clip_seconds:g}")
        # What TFDS accepts as the name of a split. A "." would end the name in the names of its files.
        if not (re.fullmatch(r"[\w-]+", self.split) and any(map(str.isalnum, self.split))):
            raise ValueError(
                f"split {self.split!r} must have letters, digits, '-' and '_' only: rename the directory of "
                "VoxCeleb2 if it has another name"
            )
        longest = len(shard_file(VIDEO, self.split, 0, 0).rpartition("/")[2].encode())
        if longest > _LONGEST_FILE_NAME:
            raise ValueError(
                f"split {self.split[:20]}… is too long by {longest - _LONGEST_FILE_NAME} bytes: "
                "rename the directory"
            )


@dataclasses.dataclass(frozen=True)
class Plan:
    """All that decides the contents of the shards, except the clips themselves.

    Attributes:
        options: the user's choices.
        n_clips: number of clips found.
        names_sha256: hash of their names.
        n_shards: number of shards.
        jpeg_quality: quality of the frames' JPEGs.
        record_version: version of the records' layout.
        decoder_version: of what decoded the clips; another one makes no more shards (`builder.prepare`).
        files_sha256: hash of the lists of clips, as they were written.
        layout: of the inputs, one of `layouts.LAYOUTS`.
        passed_over: number of files of the input that are no clips, by kind.
        found: what was found and where, in one line.
    """

    options: Options
    n_clips: int
    names_sha256: str
    n_shards: int
    jpeg_quality: int = media.JPEG_QUALITY
    record_version: int = records.VERSION
    decoder_version: int = dataclasses.field(default=media.DECODER_VERSION, compare=False)
    files_sha256: str = dataclasses.field(default="", compare=False)
    layout: str = VOXCELEB2
    passed_over: dict[str, int] = dataclasses.field(default_factory=dict, compare=False)
    found: str = dataclasses.field(default="", compare=False)

    def members(self, index: int) -> range:
        """Returns the positions of the clips of shard `index` in the order of clips."""
        return range(index * self.n_clips // self.n_shards, (index + 1) * self.n_clips // self.n_shards)


def ensure_plan(corpus: Corpus, output: epath.Path, options: Options) -> Plan:
    """Reads the plan of `output`, or makes it if there is none.

    Raises:
        FileNotFoundError: an input does not have its layout.
        ValueError: `output` was begun with other options or another input, or holds other files; or none of
            the first clips can be used.
    """
    begun = (output / PLAN).exists()
    if not begun:
        _check_vacant(output)
    layout = corpus.layout_for(options.split)
    clips, passed_over, found = corpus.find(layout, options.split, options.clip_seconds)
    asked = Plan(
        options,
        len(clips),
        _digest(clip.name for clip in clips),
        0,
        layout=layout,
        passed_over=passed_over,
        found=found,
    )
    # A hash of the seed and the name decides the order, so that it is the same on every machine.
    clips.sort(key=lambda clip: hashlib.sha256(f"{options.seed}/{clip.name}".encode()).digest())
    files = _digest(map(ClipFiles.to_line, clips))
    plan = _begun(output, asked) if begun else _sized(asked, clips, corpus.directories(layout))
    _warn_of_many_files(plan)
    if plan.files_sha256 != files:
        plan = dataclasses.replace(plan, files_sha256=files)
        for index in tqdm(range(plan.n_shards), "planning", unit="shard"):
            members = "".join(f"{clips[place].to_line()}\n" for place in plan.members(index))
            atomic_files.publish_text(members, output, _list_file(index))
        stored = dataclasses.asdict(plan)
        del stored["found"]  # it names directories of this machine
        atomic_files.publish_text(json.dumps(stored, indent=1) + "\n", output, PLAN)
    return plan


def _digest(lines: Iterable[str]) -> str:
    """The SHA-256 of lines that are joined by line feeds."""
    digest, between = hashlib.sha256(), b""
    for line in lines:
        digest.update(between + line.encode())
        between = b"\n"
    return digest.hexdigest()


def _begun(output: epath.Path, asked: Plan) -> Plan:
    """The plan of an output that was begun, with what was passed over now.

    Raises:
        ValueError: it was begun with other options or another input.
    """
    begun = read_plan(output)
    options = asked.options
    if options.shard_mb is None:
        options = dataclasses.replace(options, shard_mb=begun.options.shard_mb)
    asked = dataclasses.replace(
        asked,
        options=options,
        n_shards=begun.n_shards,
        decoder_version=begun.decoder_version,
        files_sha256=begun.files_sha256,
    )
    if begun != asked:
        raise ValueError(
            f"{output} was begun with other options ({_difference(begun, asked)}): choose another --output"
        )
    return asked


def _sized(asked: Plan, clips: Sequence[ClipFiles], inputs: Sequence[str]) -> Plan:
    """A new plan, with the number of shards that follows from the size of the first clips."""
    options = asked.options
    total_mb = len(clips) * _bytes_of_a_clip(clips, inputs, options) / 1e6
    if options.shard_mb is None:
        options = dataclasses.replace(options, shard_mb=_shard_mb(total_mb))
    assert options.shard_mb is not None
    n_shards = min(max(math.ceil(total_mb / options.shard_mb), _FEWEST_SHARDS), len(clips))
    return dataclasses.replace(asked, options=options, n_shards=n_shards)


def read_plan(output: epath.Path) -> Plan:
    """Reads the plan of a prepared set.

    Raises:
        ValueError: the plan is damaged or from another version.
    """
    try:
        fields = json.loads((output / PLAN).read_text(encoding="utf-8"))
        options = fields.pop("options")
        options["crop"] = _crop_of(options["crop"])
        fields.setdefault("decoder_version", 1)  # 0.1.0 did not write it
        return Plan(Options(**options), **fields)
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        raise ValueError(f"{output / PLAN} is not a plan of this version: {error}") from error


def _crop_of(fields: dict[str, Any]) -> media.Part:
    kinds: tuple[type[media.Part], ...] = (media.Crop, media.FaceCrop, media.Stretch)
    kind = next(kind for kind in kinds if fields.keys() == {each.name for each in dataclasses.fields(kind)})
    return kind(**fields)


def read_clips(output: epath.Path, index: int) -> list[ClipFiles]:
    """Reads the clips of shard `index`."""
    lines = (output / _list_file(index)).read_text(encoding="utf-8").split("\n")[:-1]
    return [clip_files.from_line(line) for line in lines]


def _list_file(index: int) -> str:
    return f"{_LISTS}/{index:05d}.jsonl"


def _difference(begun: Plan, asked: Plan) -> str:
    """Describes the first difference between two plans: ``name was … and is now …``."""
    for old, new in ((begun.options, asked.options), (begun, asked)):
        for field in dataclasses.fields(old):
            then, now = getattr(old, field.name), getattr(new, field.name)
            if then != now and field.name != "options":
                return f"{field.name} was {then} and is now {now}"
    raise AssertionError("the plans are the same")


def _shard_mb(total_mb: float) -> float:
    """Returns the size of a shard of video for a set of `total_mb`, both in 10⁶ bytes."""
    return max(_SHARD_MB, float(math.ceil(total_mb / _MOST_SHARDS)))


def _warn_of_many_files(plan: Plan) -> None:
    """Warns if training on the set will need more open files than most systems allow."""
    if plan.n_shards > _MOST_SHARDS:
        logging.warning(
            "%d shards of video and as many of sound stay open in training, but most systems allow %d files: "
            "omit --shard_mb (with a new --output), or train where `ulimit -n` is higher",
            plan.n_shards,
            _OPEN_FILES,
        )


def _check_vacant(output: epath.Path) -> None:
    """Refuses a directory that holds anything but files of an unfinished plan."""
    if output.exists():
        others = sorted({path.name for path in output.iterdir()} - {_LISTS, atomic_files.UNFINISHED})
        if others:
            raise ValueError(f"{output} holds {others[0]} but no {PLAN}: choose an empty --output")


def _bytes_of_a_clip(clips: Sequence[ClipFiles], inputs: Sequence[str], options: Options) -> float:
    """Returns the mean size in bytes of a stored clip's frames, over the first clips that can be used."""
    sizes = []
    problems: dict[str, str] = {}  # reason → the first clip that has it
    for clip in clips[:_CLIPS_TRIED]:
        try:
            sizes.append(sum(map(len, clip_files.load(clip, inputs, options.crop).jpegs)))
        except media.UnusableClipError as error:
            problems.setdefault(error.reason, f"{clip.name}: {error}")
        if len(sizes) == _MEASURED_CLIPS:
            break
    if not sizes:
        raise ValueError(
            f"none of the first {min(len(clips), _CLIPS_TRIED)} clips can be used; "
            + "; ".join(problems.values())
        )
    return sum(sizes) / len(sizes)
