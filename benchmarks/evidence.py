"""What pre-training, its parts, each modality and more labels are worth, on made-up emotions.

    python -m benchmarks.evidence --root=runs/evidence [--only='pre-trained,from scratch'] [--seeds=3]

Makes two corpora of different speakers, one with labels; pre-trains on the other one, whole and without each
of its two hierarchical parts; fine-tunes each of `VARIANTS` on both folds with every seed; prints a table and
draws it.
After an interruption, the same command continues.

Every figure is of the last epoch, which nothing has chosen, on speakers that neither stage has seen. Each
variant is scored on all clips of both folds, with every seed. Intervals resample speakers, with all seeds of
a speaker together: they say how far other speakers might change a figure. The deviation between seeds stands
beside.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from benchmarks import evidence_figure, made_up_corpora
from data_pipeline.corpora.protocols import protocol
from hicmae_jax.evaluation import emotion_metrics
from hicmae_jax.evaluation.intervals import class_differences, class_intervals
from hicmae_jax.runs.fold_report import read_finished_fold
from hicmae_jax.studies.stages import Record, Stage, python_command, run_all
from launch import command

FLAGS = flags.FLAGS

PROTOCOL = "made_up"
LABELLED_CLIPS, LABELLED_SPEAKERS = 1_920, 320
TEST_SPEAKERS = 20
PRETRAININGS: Mapping[str, Mapping[str, Any]] = {
    "whole": {},
    "without skip connections": {"config.model.skip_connections": False},
    "without contrast": {"config.loss.contrastive_weight": 0.0},
}


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way to fine-tune.

    Attributes:
        pretraining: one of `PRETRAININGS`; None trains from scratch.
        labels: share of the labels.
        changes: other settings that differ from the recipe.
        compared_with: variant with which it is compared, clip by clip.
    """

    pretraining: str | None = "whole"
    labels: float = 1.0
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    compared_with: str = "pre-trained"

    def flags(self, root: Path) -> dict[str, Any]:
        """Flags of `launch.finetune` that differ between variants."""
        chosen = dict(self.changes)
        if self.pretraining is not None:
            chosen["config.initial.weights"] = root / "pretrained" / _file_name(self.pretraining)
        if self.labels < 1:
            chosen["config.data.labels_share"] = self.labels
        return chosen


VARIANTS = {
    "pre-trained": Variant(compared_with="from scratch"),
    "from scratch": Variant(None),
    "pre-trained, 20 % of the labels": Variant(labels=0.2, compared_with="from scratch, 20 % of the labels"),
    "from scratch, 20 % of the labels": Variant(None, 0.2, compared_with="pre-trained, 20 % of the labels"),
    "pre-trained, 5 % of the labels": Variant(labels=0.05, compared_with="from scratch, 5 % of the labels"),
    "from scratch, 5 % of the labels": Variant(None, 0.05, compared_with="pre-trained, 5 % of the labels"),
    "without skip connections": Variant("without skip connections"),
    "without contrast": Variant("without contrast"),
    "without feature fusion": Variant(changes={"config.finetune.feature_fusion": False}),
    "video alone": Variant(changes={"config.finetune.modality": "video"}),
    "audio alone": Variant(changes={"config.finetune.modality": "audio"}),
}


def stages(root: Path, names: Sequence[str], seeds: int) -> list[Stage]:
    """The commands of the study.

    Args:
        root: directory in which the commands work.
        names: names of the variants.
        seeds: number of runs of each variant.
    """
    needed = {VARIANTS[name].pretraining for name in names}
    return [
        *made_up_corpora.with_labels(root, LABELLED_CLIPS, LABELLED_SPEAKERS),
        *made_up_corpora.without_labels(root, TEST_SPEAKERS, seed=1),
        *(_pretrain(root, name) for name in PRETRAININGS if name in needed),
        *(_finetune(root, name, seed) for seed in range(seeds) for name in names),
    ]


def _pretrain(root: Path, name: str) -> Stage:
    pretrain = python_command(
        "launch.pretrain",
        config="evidence:pretrain",
        run=root / "pretrained" / _file_name(name),
        **{"config.data.sets": root / "dev", **PRETRAININGS[name]},
    )
    return Stage(f"pre-train, {name}", pretrain)


def _finetune(root: Path, name: str, seed: int) -> Stage:
    finetune = python_command(
        "launch.finetune",
        config="evidence:finetune",
        run=_run(root, name, seed),
        **{
            "config.data.sets": root / "labelled",
            "config.seed": seed,
            **VARIANTS[name].flags(root),
        },
    )
    return Stage(f"fine-tune, {name}, seed {seed}", finetune)


def _run(root: Path, name: str, seed: int) -> Path:
    return root / "runs" / f"{_file_name(name)}-{seed}"


def _file_name(name: str) -> str:
    return name.replace(", ", "_").replace(" ", "_").replace("_%", "").replace("-", "")


@dataclasses.dataclass(frozen=True)
class Result:
    """All predictions of a variant by its last epoch: a row for each seed and clip, in one order.

    Attributes:
        true: int[N], classes.
        scores: float[N, K], probabilities.
        units: speaker of each row.
        by_seed: UAR of each seed in %.
    """

    true: np.ndarray
    scores: np.ndarray
    units: tuple[str, ...]
    by_seed: tuple[float, ...]


def read_result(root: Path, name: str, seeds: int) -> Result:
    """Read the predictions of a variant.

    Raises:
        ValueError: a fold is not finished.
    """
    rows, by_seed = [], []
    for seed in range(seeds):
        results = [
            read_finished_fold(_run(root, name, seed), protocol(PROTOCOL), number)
            for number in protocol(PROTOCOL).tested_folds
        ]
        true = np.concatenate([result.true for result in results])
        scores = np.concatenate([result.last for result in results])
        order = np.argsort([clip for result in results for clip in result.names])
        units = np.array([unit for result in results for unit in result.units])
        rows.append((true[order], scores[order], units[order]))
        by_seed.append(emotion_metrics.class_scores(true, scores)["UAR"])
    true, scores, units = (np.concatenate(parts) for parts in zip(*rows))
    return Result(true, scores, tuple(units.tolist()), tuple(by_seed))


def figures(results: Mapping[str, Result]) -> list[dict[str, Any]]:
    """Scores of each variant with intervals, and its difference to the one it is compared with."""
    found = []
    for name, result in results.items():
        scores = emotion_metrics.class_scores(result.true, result.scores)
        intervals = class_intervals(result.true, result.scores, result.units)
        row: dict[str, Any] = {
            "name": name,
            "seeds": len(result.by_seed),
            "UAR": scores["UAR"],
            "UAR interval": [intervals["UAR"].low, intervals["UAR"].high],
            "UAR by seed": list(result.by_seed),
            "WAR": scores["WAR"],
            "compared with": VARIANTS[name].compared_with,
        }
        other = results.get(VARIANTS[name].compared_with)
        if other is not None:
            difference = class_differences(result.true, result.scores, other.scores, result.units)["UAR"]
            second = emotion_metrics.class_scores(other.true, other.scores)["UAR"]
            row["difference"] = scores["UAR"] - second
            row["difference interval"] = [difference.low, difference.high]
        found.append(row)
    return found


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The figures as a Markdown table.

    Args:
        rows: from `figures`.
    """
    lines = [
        "| variant | UAR, % [95 % interval] | between seeds | WAR, % | difference in UAR [95 % interval] |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        low, high = row["UAR interval"]
        spread = f"± {np.std(row['UAR by seed'], ddof=1):.1f}" if row["seeds"] > 1 else "–"
        difference = "–"
        if "difference" in row:
            below, above = row["difference interval"]
            difference = f"{row['difference']:+.1f} [{below:+.1f}, {above:+.1f}] to {row['compared with']}"
        lines.append(
            f"| {row['name']} | {row['UAR']:.1f} [{low:.1f}, {high:.1f}] | {spread} | {row['WAR']:.1f} "
            f"| {difference} |"
        )
    return "\n".join(lines)


def define_flags() -> None:
    """Declares the command line."""
    flags.DEFINE_string("root", "runs/evidence", "Directory to create, or to go on with.")
    flags.DEFINE_list("only", list(VARIANTS), "Names of the variants to run.")
    flags.DEFINE_integer("seeds", 3, "Runs of each variant.", lower_bound=1)


def main(argv: Sequence[str]) -> int:
    """Runs the study and prints its table; returns the exit code."""
    del argv
    unknown = [name for name in FLAGS.only if name not in VARIANTS]
    if unknown:
        raise ValueError(f"--only: there is no variant {unknown[0]}; the variants are {'; '.join(VARIANTS)}")
    root = Path(FLAGS.root)
    run_all(stages(root, FLAGS.only, FLAGS.seeds), Record(root))
    rows = figures({name: read_result(root, name, FLAGS.seeds) for name in FLAGS.only})
    (root / "evidence.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    chance = emotion_metrics.PERCENT / len(protocol(PROTOCOL).outputs)
    evidence_figure.draw(rows, chance).savefig(root / "evidence.png", dpi=100)
    print(table(rows))
    return 0


if __name__ == "__main__":
    command.run("evidence", define_flags, main, resumable=True)
