"""Prepare a corpus of clips for training.

    python -m launch.prepare --input=VoxCeleb2 --output=prepared/dev --split=dev

    python -m launch.prepare --input=films --output=prepared/films --crop=face

    python -m launch.prepare --input=clips.csv --root=videos --output=prepared/clips --crop=none

``--input`` has the layout of VoxCeleb2, or is a tree of videos, or a list of them (see
`data_pipeline.corpora.voxceleb2`, `.folder` and `.clip_list`). ``--output`` becomes a prepared set (see
`data_pipeline.format.prepared_set`). After an interruption, run the same command again: it
makes the missing shards. To make a finished shard again, for example after you have repaired a clip, first
remove the shard's file in ``manifests/``.

A labelled data set for fine-tuning is named (see `data_pipeline.corpora.downloads` and `.annotations` for the
layouts), and ``--output`` becomes a labelled set (see `data_pipeline.format.labelled_set`):

    python -m launch.prepare --dataset=crema_d --input=CREMA-D --frames=CREMA-D/faces --output=data/crema_d
    python -m launch.prepare --dataset=mafw --input=MAFW --splits=mafw_11=lists/mafw --output=data/mafw

On a cluster:

    python -m launch.prepare ... --runner=beam --beam_options='--runner=FlinkRunner --flink_master=host:8081'
"""

import shlex
import sys
import time

from absl import flags
from etils import epath

from data_pipeline.common.cores import usable_cores
from data_pipeline.corpora.layouts import LAYOUTS, Corpus
from data_pipeline.corpora.passed_over import describe as describe_kinds
from data_pipeline.format.prepared_set import PreparedSet
from data_pipeline.media import faces
from data_pipeline.media.decode import Crop, FaceCrop, Part, Stretch
from data_pipeline.preparation import builder, frame_sizes
from data_pipeline.preparation.local_runner import run_local
from data_pipeline.preparation.plan import Options, Plan
from data_pipeline.preparation.shard_writer import ShardSpec
from launch import command, face_look, prepare_labelled, rejections

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Declare the flags; not at import, because other commands have flags of the same names."""
    flags.DEFINE_multi_string(
        "input",
        None,
        "Directory that holds <split>/mp4/<speaker>/<video>/<clip>.mp4, or any tree of videos, or a list of "
        "videos (.csv, .tsv, .jsonl or annotation lines); or the download of --dataset. Can be given again.",
        required=True,
    )
    flags.DEFINE_enum(
        "layout", None, list(LAYOUTS), "What --input is; by default, as it looks like.", required=False
    )
    flags.DEFINE_string(
        "root", None, "Directory of the relative paths of a list; by default, that of the list."
    )
    flags.DEFINE_float(
        "clip_seconds", None, "Cut recordings into clips of about this length, in seconds; by default not."
    )
    flags.DEFINE_string(
        "output", None, "Directory of the prepared set: new, or begun by the same command.", required=True
    )
    flags.DEFINE_string(
        "split", "dev", "Split of VoxCeleb2 to prepare; of other layouts, a name for the files of the set."
    )
    flags.DEFINE_float(
        "shard_mb",
        None,
        "Approximate size of a shard of video, in 10^6 bytes; by default 768, or more for a set that would "
        "otherwise need more than 1,024 open files.",
    )
    flags.DEFINE_integer("seed", 0, "Seed of the order of clips.")
    flags.DEFINE_list(
        "crop",
        ["0", "32", "160", "160"],
        "Part of a frame to keep: top,left,height,width in pixels; face, which finds the largest face of "
        "each clip; or none, which scales whole frames to 160 × 160 (labelled sets: face, or by default "
        "none).",
    )
    flags.DEFINE_enum(
        "runner",
        "local",
        ["local", "beam"],
        "What makes the shards: processes of this machine, or Apache Beam.",
    )
    flags.DEFINE_integer("workers", usable_cores(), "Number of processes of the local runner.", lower_bound=1)
    flags.DEFINE_string("beam_options", "", "Command line of Beam, as one text.")
    flags.DEFINE_float(
        "max_rejected_share",
        0.05,
        "Largest share of rejected clips without an error.",
        lower_bound=0,
        upper_bound=1,
    )
    prepare_labelled.define_flags()


def main(argv: list[str]) -> int:
    """Run the command; the exit code is 2 if too many clips were rejected."""
    if FLAGS.dataset:
        return prepare_labelled.main()
    prepare_labelled.refuse_its_flags()
    begun = time.monotonic()
    n_made = 0
    passed_over: dict[str, int] = {}

    def run(specs: list[ShardSpec], plan: Plan) -> None:
        nonlocal n_made, passed_over
        passed_over = plan.passed_over
        print(f"layout    {plan.layout}: {plan.found}", flush=True)
        n_made = sum(len(plan.members(spec.index)) for spec in specs)
        if FLAGS.runner == "beam":
            run_on_beam(specs, FLAGS.beam_options)
        else:
            run_local(specs, plan.n_clips, plan.n_clips - n_made, FLAGS.workers)

    crop = _crop(FLAGS.crop)
    options = Options(FLAGS.split.rstrip("/"), crop, FLAGS.shard_mb, FLAGS.seed, FLAGS.clip_seconds)
    root = None if FLAGS.root is None else epath.Path(FLAGS.root)
    inputs = tuple(map(epath.Path, FLAGS.input))
    corpus = Corpus(inputs, FLAGS.layout, root, FLAGS.max_rejected_share)
    described = builder.prepare(corpus, FLAGS.output, options, run)
    print(summary(described, passed_over, n_made / (time.monotonic() - begun)))
    if warning := frame_sizes.warning(described.frame_sizes, options.crop):
        print(f"prepare: {warning}", file=sys.stderr)
    if not isinstance(options.crop, FaceCrop) and (
        warning := face_look.report(FLAGS.output, described).warning
    ):
        print(f"prepare: {warning}", file=sys.stderr)
    rejections.check(described.rejected, described.n_clips, FLAGS.output, FLAGS.max_rejected_share)
    return 0


def summary(described: PreparedSet, passed_over: dict[str, int], clips_per_second: float) -> str:
    """A few lines that describe a prepared set, and the input and speed of the run that made it."""
    lines = [
        f"kept      {described.n_clips} clips, {described.n_frames / described.fps / 3600:.2f} hours, "
        f"{described.n_bytes / 1e9:.2f} GB in {len(described.shards)} pairs of shards",
        f"resampled {described.n_resampled}",
        *rejections.lines(described.rejected),
        f"ignored   {describe_kinds(passed_over)}",
        f"rate      {clips_per_second:.1f} clips a second in this run",
        f"identity  {described.fingerprint}",
    ]
    return "\n".join(lines)


def _crop(values: list[str]) -> Part:
    if values == ["face"]:
        faces.check_installed()
        return FaceCrop()
    if values == ["none"]:
        return Stretch()
    try:
        top, left, height, width = map(int, values)
        return Crop(top, left, height, width)
    except ValueError as error:
        raise ValueError(
            f"--crop={','.join(values)} is not face, none or top,left,height,width in pixels: {error}"
        ) from error


def run_on_beam(specs: list[ShardSpec], command_line: str) -> None:
    """Makes shards on Apache Beam.

    Raises:
        RuntimeError: Apache Beam is not installed.
    """
    try:
        from data_pipeline.preparation.beam_runner import run_beam
    except ModuleNotFoundError as error:
        raise RuntimeError(f"--runner=beam needs {error.name}: pip install 'hicmae_jax[beam]'") from error
    run_beam(specs, shlex.split(command_line))


if __name__ == "__main__":
    command.run("prepare", define_flags, main, resumable=True)
