"""The plan of a prepared set: which clip goes into which shard.

The plan is written once, before any shard. Every process that makes a shard reads it, so that a shard is the
same whichever process makes it. The plan is ``plan.json`` and, for shard `i`, the names of its clips in
``plan/<i>.txt``. Clips are sorted by a hash of seed and name, which is the same on every machine.
"""

import dataclasses
import hashlib
import json
import math
import re

from absl import logging
from etils import epath

from data_pipeline.common import atomic_files
from data_pipeline.corpora import voxceleb2
from data_pipeline.format import records
from data_pipeline.format.prepared_set import PLAN, VIDEO, shard_file
from data_pipeline.media import decode as media

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
        split: directory of the input to prepare, such as ``dev``; part of the names of files and of TFDS.
        crop: the part of each frame to keep.
        shard_mb: approximate size of a shard of video, in 10⁶ bytes. None: 768, or more if the set would
            otherwise need more open files than most systems allow.
        seed: of the order of clips.

    Raises:
        ValueError: a split that no file or TFDS split can be named after, or a size that is not above 0.
    """

    split: str = "dev"
    crop: media.Crop | media.FaceCrop = dataclasses.field(default_factory=media.Crop)
    shard_mb: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.shard_mb is not None and not 0 < self.shard_mb < math.inf:
            raise ValueError(f"shard_mb must be above 0, got {self.shard_mb:g}")
        # What TFDS accepts as the name of a split. A "." would end the name in the names of its files.
        if not (re.fullmatch(r"[\w-]+", self.split) and any(map(str.isalnum, self.split))):
            raise ValueError(
                f"split {self.split!r} must be the name of a directory in --input, of letters, digits, "
                "'-' and '_' only: rename the directory if it has another name"
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
        passed_over: number of files of the input that are no clips, by kind.
    """

    options: Options
    n_clips: int
    names_sha256: str
    n_shards: int
    jpeg_quality: int = media.JPEG_QUALITY
    record_version: int = records.VERSION
    decoder_version: int = dataclasses.field(default=media.DECODER_VERSION, compare=False)
    passed_over: dict[str, int] = dataclasses.field(default_factory=dict, compare=False)

    def members(self, index: int) -> range:
        """Returns the positions of the clips of shard `index` in the order of clips."""
        return range(index * self.n_clips // self.n_shards, (index + 1) * self.n_clips // self.n_shards)


def ensure_plan(input_root: epath.Path, output: epath.Path, options: Options) -> Plan:
    """Reads the plan of `output`, or makes it if there is none.

    Raises:
        FileNotFoundError: the input does not have the layout of VoxCeleb2.
        ValueError: `output` was begun with other options or another input, or holds other files; or none of
            the first clips can be used.
    """
    names, passed_over = voxceleb2.find_clips(input_root, options.split)
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()
    if (output / PLAN).exists():
        plan = read_plan(output)
        if options.shard_mb is None:
            options = dataclasses.replace(options, shard_mb=plan.options.shard_mb)
        asked = Plan(
            options,
            len(names),
            digest,
            plan.n_shards,
            decoder_version=plan.decoder_version,
            passed_over=passed_over,
        )
        if plan != asked:
            raise ValueError(
                f"{output} was begun with other options ({_difference(plan, asked)}): choose another --output"
            )
        _warn_of_many_files(asked)
        return asked
    _check_vacant(output)
    names.sort(key=lambda name: hashlib.sha256(f"{options.seed}/{name}".encode()).digest())
    total_mb = len(names) * _bytes_of_a_clip(input_root, options, names) / 1e6
    if options.shard_mb is None:
        options = dataclasses.replace(options, shard_mb=_shard_mb(total_mb))
    assert options.shard_mb is not None
    n_shards = min(max(math.ceil(total_mb / options.shard_mb), _FEWEST_SHARDS), len(names))
    plan = Plan(options, len(names), digest, n_shards, passed_over=passed_over)
    _warn_of_many_files(plan)
    for index in range(n_shards):
        members = "".join(f"{names[place]}\n" for place in plan.members(index))
        atomic_files.publish_text(members, output, _list_file(index))
    atomic_files.publish_text(json.dumps(dataclasses.asdict(plan), indent=1) + "\n", output, PLAN)
    return plan


def read_plan(output: epath.Path) -> Plan:
    """Reads the plan of a prepared set.

    Raises:
        ValueError: the plan is damaged or from another version.
    """
    try:
        fields = json.loads((output / PLAN).read_text(encoding="utf-8"))
        options = fields.pop("options")
        kind = media.FaceCrop if "detector" in options["crop"] else media.Crop
        options["crop"] = kind(**options["crop"])
        fields.setdefault("decoder_version", 1)  # 0.1.0 did not write it
        return Plan(Options(**options), **fields)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{output / PLAN} is not a plan of this version: {error}") from error


def read_names(output: epath.Path, index: int) -> list[str]:
    """Reads the names of the clips of shard `index`."""
    return (output / _list_file(index)).read_text(encoding="utf-8").split("\n")[:-1]


def _list_file(index: int) -> str:
    return f"{_LISTS}/{index:05d}.txt"


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


def _bytes_of_a_clip(input_root: epath.Path, options: Options, names: list[str]) -> float:
    """Returns the mean size in bytes of a stored clip's frames, over the first clips that can be used."""
    sizes = []
    problem = None
    for name in names[:_CLIPS_TRIED]:
        try:
            clip = voxceleb2.load(input_root, options.split, name, options.crop)
            sizes.append(sum(map(len, clip.jpegs)))
        except media.UnusableClipError as error:
            problem = problem or f"{name}: {error}"
        if len(sizes) == _MEASURED_CLIPS:
            break
    if not sizes:
        raise ValueError(f"none of the first {min(len(names), _CLIPS_TRIED)} clips can be used; {problem}")
    return sum(sizes) / len(sizes)
