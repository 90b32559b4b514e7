"""The part of `launch.prepare` that prepares a labelled data set."""

import sys
import time

from absl import flags

from data_pipeline.corpora import folds, labelled
from data_pipeline.corpora.annotations import parse_rewrite
from data_pipeline.corpora.protocols import DATASETS, protocols_of
from data_pipeline.format.labelled_set import LabelledSet
from data_pipeline.media import faces
from data_pipeline.preparation.labelled_builder import (
    FACE,
    WHOLE,
    prepare_labelled,
    protocols_with_labels,
)
from data_pipeline.preparation.labelled_shards import LabelledShardSpec, write_labelled_shard
from data_pipeline.preparation.local_runner import run_local
from launch import face_look, rejections

FLAGS = flags.FLAGS

_OF_LABELLED = ("frames", "annotations", "splits", "path_rewrite", "side")
_OF_UNLABELLED = ("layout", "root", "clip_seconds", "split", "shard_mb", "seed", "runner", "beam_options")


def define_flags() -> None:
    """Declare the flags of a labelled data set."""
    flags.DEFINE_enum(
        "dataset", None, list(DATASETS), "Labelled data set that --input holds; by default none."
    )
    flags.DEFINE_string(
        "frames",
        None,
        "Directory with a directory of face frames for each clip; by default the videos' frames.",
    )
    flags.DEFINE_string(
        "annotations",
        None,
        "List of clips: <face frames' directory or video> <sound> <label …>, a line a clip.",
    )
    flags.DEFINE_list(
        "splits", [], "Directory with such lists for each fold: split01/train.csv …; or PROTOCOL=DIR,…"
    )
    flags.DEFINE_list("path_rewrite", [], "OLD=NEW,…: beginnings of paths in lists, and what replaces them.")
    flags.DEFINE_integer("side", 160, "Height and width to which frames are stretched, in pixels.")


def refuse_its_flags() -> None:
    """Refuse the flags of a labelled data set without --dataset.

    Raises:
        ValueError: one is given.
    """
    if given := [name for name in _OF_LABELLED if FLAGS[name].present]:
        raise ValueError(f"--{given[0]} is for a labelled data set: give its name with --dataset")


def main() -> int:
    """Prepare a labelled data set; the exit code is 2 if too many clips were rejected."""
    if given := [name for name in _OF_UNLABELLED if FLAGS[name].present]:
        raise ValueError(f"--{given[0]} does not go with --dataset: leave it out")
    if len(FLAGS.input) > 1:
        raise ValueError("--dataset takes one --input, the download of the data set: leave the others out")
    (root,) = FLAGS.input
    crop = _crop()
    begun = time.monotonic()
    n_made = 0
    clips = labelled.find(
        FLAGS.dataset,
        root,
        frames=FLAGS.frames,
        annotations=FLAGS.annotations,
        splits=FLAGS.splits,
        rewrites=[parse_rewrite(text) for text in FLAGS.path_rewrite],
    )

    def run(specs: list[LabelledShardSpec]) -> None:
        nonlocal n_made
        n_made = sum(len(spec.clips) for spec in specs)
        run_local(specs, len(clips), len(clips) - n_made, FLAGS.workers, write_labelled_shard)

    described = prepare_labelled(FLAGS.dataset, clips, FLAGS.output, FLAGS.side, run, crop)
    print(summary(described, n_made / (time.monotonic() - begun)))
    if crop == WHOLE and (warning := face_look.report(FLAGS.output, described).warning):
        print(f"prepare: {warning}", file=sys.stderr)
    rejections.check(described.rejected, described.n_clips, FLAGS.output, FLAGS.max_rejected_share)
    return 0


def _crop() -> str:
    """Reads --crop: what to keep of videos.

    Raises:
        ValueError: it does not go with a labelled data set, or with the other flags.
        ImportError: faces are to be found, and the extra ``face`` is not installed.
    """
    if not FLAGS["crop"].present or FLAGS.crop == ["none"]:
        return WHOLE
    if FLAGS.crop != [FACE]:
        raise ValueError(
            f"--crop={','.join(FLAGS.crop)} does not go with --dataset: leave it out, or give --crop=face"
        )
    if FLAGS.frames:
        raise ValueError("--crop=face does not go with --frames, whose pictures are faces: leave one out")
    faces.check_installed()
    return FACE


def summary(described: LabelledSet, clips_per_second: float) -> str:
    """A few lines that describe a labelled set, compare it with its protocols, and tell the speed."""
    n_frames = sum(clip.n_frames for clip in described.clips)
    hours = sum(clip.n_samples for clip in described.clips) / described.sample_rate / 3600
    lines = [
        f"kept      {described.n_clips} clips, {n_frames} frames, {hours:.2f} hours in "
        f"{len(described.shards)} shards",
        *rejections.lines(described.rejected),
    ]
    with_labels = protocols_with_labels(described.dataset, described.clips)
    for protocol in protocols_of(described.dataset):
        if protocol not in with_labels:
            lines.append(f"protocol  {protocol.name}: no clip has its labels")
        elif found := folds.differences(protocol, described.clips):
            lines += [f"protocol  {line}" for line in found]
        else:
            lines.append(f"protocol  {protocol.name}: all numbers of clips are as expected")
    return "\n".join(
        [
            *lines,
            f"rate      {clips_per_second:.1f} clips a second in this run",
            f"identity  {described.fingerprint}",
        ]
    )
