"""The end of the demo: emotions of speakers never seen, by the pre-trained model and by one from scratch.

Both learn from the same labelled clips by the same recipe, so that they differ only in the weights with which
they begin. Scores are of the last epoch, which nothing has chosen. At last, the exported pre-trained model is
given video files of one of these speakers.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_pipeline.corpora.protocols import protocol
from hicmae_jax.evaluation import emotion_metrics
from hicmae_jax.evaluation.fold_table import FoldResult
from hicmae_jax.evaluation.intervals import Interval, class_differences, class_intervals
from hicmae_jax.runs.fold_report import read_finished_fold
from hicmae_jax.studies.stages import Stage, python_command
from launch.demo.criteria import Criterion

CONFIG = "demo:finetune"
PROTOCOL, FOLD = "made_up", 1
SPEAKERS, CLIPS_EACH = 40, 6
"""Half of the speakers are in the fold that is tested. Each speaker shows each of the six emotions once."""
SIDE = 64
"""Side of the stored frames, in pixels: the model takes no larger ones."""
PRETRAINED, SCRATCH = "pre-trained", "from scratch"
WEIGHTS, VIDEOS = "weights", "videos"
SHOWN = tuple(f"s0000_{number:03}.mp4" for number in range(CLIPS_EACH))
"""Videos of a speaker of the tested fold, with one emotion each."""
PICTURES = ("pretrained/confusion.png", "scratch/confusion.png", f"{VIDEOS}/files/{SHOWN[0]}.png")
EMBED = "emotions of video files"


def stages(root: Path, run: Path, export_name: str) -> list[Stage]:
    """The commands that lead from a pre-trained run to recognised emotions.

    Args:
        root: directory in which they work.
        run: directory of the pre-trained run.
        export_name: name of the stage that exports the fine-tuned model.
    """
    raw, labelled = root / "raw", root / "labelled"
    make_corpus = python_command(
        "launch.make_corpus",
        "--nodifficult",
        root=raw,
        layout=PROTOCOL,
        clips=SPEAKERS * CLIPS_EACH,
        speakers=SPEAKERS,
    )
    prepare = python_command("launch.prepare", dataset=PROTOCOL, input=raw, output=labelled, side=SIDE)
    fold = root / "pretrained" / f"fold-{FOLD}"
    export = python_command("launch.export", run=fold, output=root / WEIGHTS)
    videos = [f"--input={raw / 'video' / name}" for name in SHOWN]
    # The labelled shards hold whole frames, so the model has learned to see these.
    embed = python_command("launch.embed", *videos, model=root / WEIGHTS, output=root / VIDEOS, faces="whole")
    finetune = python_command("launch.finetune", config=CONFIG, folds=FOLD, **{"config.data.sets": labelled})
    return [
        Stage("make up faces with emotions", make_corpus),
        Stage("prepare labelled shards", prepare),
        Stage(
            f"fine-tune, {PRETRAINED}",
            (*finetune, f"--run={root / 'pretrained'}", f"--config.initial.weights={run}"),
        ),
        Stage(f"fine-tune, {SCRATCH}", (*finetune, f"--run={root / 'scratch'}")),
        Stage(export_name, export, makes=(root / WEIGHTS,)),
        Stage(EMBED, embed),
    ]


class Recognition(NamedTuple):
    """How well two models tell the emotions of the same clips.

    Attributes:
        speakers: number of speakers of these clips.
        counts: model → int64[K, K], its matrix of confusion: a row is a true class.
        uar: model → its unweighted average recall in %.
        intervals: model → 95 % interval of it, over speakers.
        difference: 95 % interval of pre-trained − from scratch, paired, in % points.
    """

    speakers: int
    counts: dict[str, np.ndarray]
    uar: dict[str, float]
    intervals: dict[str, Interval]
    difference: Interval


def recognition(root: Path) -> Recognition:
    """Read what both models made of the tested clips.

    Args:
        root: as for `stages`, all of which are done.

    Raises:
        ValueError: a fold is not finished, or the two were tested on different clips.
    """
    runs = root / "pretrained", root / "scratch"
    return compare(*(read_finished_fold(run, protocol(PROTOCOL), FOLD) for run in runs))


def compare(first: FoldResult, second: FoldResult) -> Recognition:
    """Compare the pre-trained model (`first`) with the one from scratch.

    Raises:
        ValueError: they were tested on different clips.
    """
    if first.names != second.names:
        raise ValueError(
            "the two models were tested on different clips: delete the directory and begin again"
        )
    results = {PRETRAINED: first, SCRATCH: second}
    classes = len(protocol(PROTOCOL).outputs)
    return Recognition(
        speakers=len(set(first.units)),
        counts={
            name: emotion_metrics.confusion(each.true, emotion_metrics.predictions(each.last), classes)
            for name, each in results.items()
        },
        uar={
            name: emotion_metrics.class_scores(each.true, each.last)["UAR"] for name, each in results.items()
        },
        intervals={
            name: class_intervals(each.true, each.last, each.units)["UAR"] for name, each in results.items()
        },
        difference=class_differences(first.true, first.last, second.last, first.units)["UAR"],
    )


def criterion(found: Recognition) -> Criterion:
    """Whether the fine-tuned model tells emotions better than chance."""
    chance = emotion_metrics.PERCENT / len(found.counts[PRETRAINED])
    low, high = found.intervals[PRETRAINED][:2]
    return Criterion(
        "emotions, pre-trained",
        low > chance,
        f"UAR {found.uar[PRETRAINED]:.1f}% ({low:.1f}%–{high:.1f}%) of {found.counts[PRETRAINED].sum()} "
        f"clips; chance {chance:.1f}%",
    )


def summary(found: Recognition) -> dict[str, Any]:
    """The figures for a JSON file."""
    return {
        "speakers": found.speakers,
        "classes": protocol(PROTOCOL).outputs,
        "models": {
            name: {
                "UAR": found.uar[name],
                "interval": found.intervals[name][:2],
                "confusion": counts.tolist(),
            }
            for name, counts in found.counts.items()
        },
        "difference interval": found.difference[:2],
    }


def page(found: Recognition) -> str:
    """The recognition rates of both models and the matrix of confusion of the pre-trained one."""
    outputs = protocol(PROTOCOL).outputs
    lines = ["", f"emotions of {found.speakers} speakers never seen (UAR, 95 % interval over speakers)"]
    for name, uar in found.uar.items():
        low, high = found.intervals[name][:2]
        lines.append(f"  {name:16}{uar:5.1f} %  ({low:.1f} … {high:.1f})")
    difference = found.uar[PRETRAINED] - found.uar[SCRATCH]
    low, high = found.difference[:2]
    judged = "" if low > 0 or high < 0 else ": too close to tell"
    lines.append(f"  {'difference':16}{difference:+5.1f}    ({low:+.1f} … {high:+.1f}){judged}")
    lines += ["", f"{PRETRAINED}: true emotions (rows) and predicted ones (columns), clips"]
    lines.append("  " + " " * 6 + "".join(f"{name:>6}" for name in outputs))
    lines += [
        f"  {name:6}" + "".join(f"{count:6}" for count in row)
        for name, row in zip(outputs, found.counts[PRETRAINED].tolist(), strict=True)
    ]
    return "\n".join(lines)


def page_of_videos(root: Path, printed: Sequence[str]) -> str:
    """What the model says of the video files, and what they show.

    Args:
        root: as for `stages`.
        printed: lines of the output of `launch.embed`.
    """
    with (root / "raw" / "labels.csv").open(newline="", encoding="utf-8") as file:
        true = {f"{row['clip']}.mp4": row["emotion"] for row in csv.DictReader(file)}
    said = [line.strip().split(": ", 1) for line in printed if line.startswith("  ") and ".mp4: " in line]
    lines = [f"  {name}: {scores}; shown {true[name]}" for name, scores in said]
    return "\n".join(["", "emotions of video files, mean probabilities over windows", *lines])
