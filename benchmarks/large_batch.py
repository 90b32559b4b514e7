"""Measures how a larger batch affects training at equal epochs, and which setting helps, on synthetic clips.

    python -m benchmarks.large_batch --root=runs/large_batch [--epochs=32] [--only='512, sqrt']

Makes and prepares a corpus, trains each of `VARIANTS`, and scores each on the same speakers, none of whom is
in the training data. After an interruption, the same command continues; after the end, it prints the table.
On one core it takes 40 to 60 minutes. `ROOT/results` keeps the figures of each run.

The model is about the smallest that still learns. Learning rates are given at batch 32, so every rate rule
gives the same rate there. All runs are scored against 31 negatives, whatever they were trained with, because
the contrastive loss grows with the logarithm of that number.
"""

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
from absl import flags

from configs import pretrain as recipe
from data_pipeline.format.clip_sampling import ClipSampling
from data_pipeline.reading.fixed_clips import FixedClips
from hicmae_jax.checkpoints.load import load_parameters
from hicmae_jax.evaluation.held_out import HeldOut
from hicmae_jax.logs.metrics import read_metrics
from hicmae_jax.runs import pretrain
from hicmae_jax.settings import pretrain as run_config
from hicmae_jax.settings.pretrain import PretrainSettings
from hicmae_jax.studies.stages import Record, Stage, python_command, run_all
from hicmae_jax.training import optimizer as optim
from launch import command

FLAGS = flags.FLAGS

CLIPS_EACH = 8
"""Clips of a speaker; one speaker of nine is for scoring."""
SECONDS = "3,3"
ANCHOR, RATE_AT_ANCHOR = 32, 2e-3
NEGATIVES = 32
"""Clips that are contrasted with each other when a run is scored."""
WARMUP_SHARE = 0.1
"""Share of the clips seen in a run during which the learning rate rises."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """Settings of one run.

    Attributes:
        batch: clips for each update.
        rule: how the learning rate follows from `rate` and `batch`.
        kind: kind of the optimiser.
        negatives: as in the recipe's `loss.negatives`.
        rate: learning rate at batch 32.
        seed: of all random draws.
    """

    batch: int
    rule: str = "fixed"
    kind: str = "adamw"
    negatives: str = "global"
    rate: float = RATE_AT_ANCHOR
    seed: int = 0

    def changes(self, epochs: int, clips: int) -> dict[str, Any]:
        """Settings that differ between variants.

        Args:
            epochs: passes over the data.
            clips: number of clips in a pass.
        """
        anchored = optim.rate_factor(self.rule, ANCHOR)
        return {
            "seed": self.seed,
            "batch": self.batch,
            "epochs": epochs,
            "warmup_examples": round(WARMUP_SHARE * epochs * clips),
            "loss.negatives": self.negatives,
            "optimizer.kind": self.kind,
            "optimizer.rate_rule": self.rule,
            "optimizer.base_rate": self.rate / anchored,
            "optimizer.base_minimum": self.rate / anchored / 20,
        }


# From a quarter of the rate, the rule `sqrt` would give `512, fixed`, and `linear` would give `512, sqrt`.
VARIANTS = {
    "32": Variant(32),
    "512, fixed": Variant(512),
    "512, sqrt": Variant(512, "sqrt"),
    "512, linear": Variant(512, "linear"),
    "512, LAMB": Variant(512, kind="lamb", rate=2e-2),
    "512, LAMB, twice the rate": Variant(512, kind="lamb", rate=4e-2),
    "512, fixed, group:32": Variant(512, negatives="group:32"),
    "32, a quarter of the rate": Variant(32, rate=RATE_AT_ANCHOR / 4),
    "512, a quarter of the rate": Variant(512, rate=RATE_AT_ANCHOR / 4),
    "32, another seed": Variant(32, seed=1),
    "512, fixed, another seed": Variant(512, seed=1),
}


def settings(root: Path, changes: dict[str, Any]) -> PretrainSettings:
    """The recipe with a small model, more weight of contrast, and a variant's changes.

    Args:
        root: directory of the prepared clips.
        changes: from `Variant.changes`.
    """
    config = recipe.get_config("mu")
    config.epochs = config.warmup_epochs = None
    smaller = {
        "model.image_size": 64,
        "model.frames": 4,
        "model.audio_frames": 128,
        "model.encoder_dim": 64,
        "model.encoder_heads": 2,
        "model.encoder_depth": 3,
        "model.skip_layers": (2, 3),
        "model.decoder_dim": 48,
        "model.decoder_heads": 2,
        "model.decoder_depth": 3,
        "model.fusion_depth": 1,
        # 4 of 16 places stay visible and few masked tokens are decoded, since contrast is what is studied.
        "masks.video_ratio": 0.75,
        "masks.video_decode_fraction": 0.5,
        "masks.audio_decode_fraction": 0.25,
        "loss.contrastive_weight": 1.0,
        "data.sets": (str(root / "dev"),),
        "data.stride": 16,
        "data.threads": 1,
        "checkpoint.every": 1_000_000,
        "log.every": 1,
        "execution.dtype": "float32",
        "execution.scan_encoders": False,
        "execution.remat_encoder": "none",
        "evaluation.every": None,
        "evaluation.clips": 96,
        "evaluation.batch": 32,
    }
    config.update_from_flattened_dict(smaller | changes)
    return run_config.from_config_dict(config, "cpu")


def result_path(root: Path, name: str, epochs: int) -> Path:
    """File with the figures of a variant."""
    return root / "results" / f"{epochs}" / f"{_file_name(name)}.json"


def _file_name(name: str) -> str:
    return name.replace(", ", "_").replace(" ", "").replace(":", "")


def stages(root: Path, clips: int, epochs: int, names: Iterable[str]) -> list[Stage]:
    """The commands that make the data, and train and score each variant.

    Args:
        root: directory in which the commands work.
        clips: number of clips of both splits.
        epochs: passes over the data, in each run.
        names: names of the variants.
    """
    speakers = clips // CLIPS_EACH

    def prepare(split: str) -> tuple[str, ...]:
        return python_command(
            "launch.prepare", input=root / "raw", output=root / split, split=split, workers=1
        )

    make_corpus = python_command(
        "launch.make_corpus",
        root=root / "raw",
        clips=clips,
        speakers=speakers,
        test_speakers=speakers // 9,
        seconds=SECONDS,
        workers=1,
    )

    def train(name: str) -> Stage:
        measure_it = python_command(
            "benchmarks.large_batch", root=root, clips=clips, epochs=epochs, measure=name
        )
        return Stage(f"train and score {name}, {epochs} epochs", measure_it)

    return [
        Stage("make up talking faces", make_corpus),
        Stage("prepare shards to train on", prepare("dev")),
        Stage("prepare shards to score on", prepare("test")),
        *map(train, names),
    ]


def measure(root: Path, clips: int, name: str, variant: Variant, epochs: int) -> dict[str, Any]:
    """Train a variant and score it.

    Args:
        root: directory with the data; the run's directory is made in it too.
        clips: number of clips of both splits.
        name: name of the variant.
        variant: settings of the variant.
        epochs: passes over the data.

    Returns:
        The settings of the variant and its figures.
    """
    config = settings(root, variant.changes(epochs, clips * 8 // 9))
    directory = root / "runs" / f"{epochs}" / _file_name(name)
    pretrain.run(config, directory, show_progress=False)
    lines = [line for line in read_metrics(directory) if "rate" in line]
    sampling = ClipSampling(config.data.frames, config.data.stride)
    test = FixedClips((str(root / "test"),), sampling, NEGATIVES, clips, 1)
    score = HeldOut(test, config.preprocess, config.loss, NEGATIVES, execution=config.execution)
    scores = score(load_parameters(directory)[0])
    last = max(config.model.skip_layers)
    return {
        "name": name,
        **dataclasses.asdict(variant),
        "epochs": epochs,
        "updates": len(lines),
        "peak_rate": max(line["rate"] for line in lines),
        "gradient_norm": lines[-1]["norm/gradient"],
        "skipped": lines[-1]["skipped"],
        "training_contrastive": lines[-1]["loss/contrastive"],
        "levels": len(config.model.skip_layers),
        **{term: scores[term] for term in ("total", "video", "audio", "contrastive")},
        "recall@5": scores[f"recall@5/layer_{last}"],
        "chance@5": scores["chance@5"],
        # The first update has no time in the log, since it includes compiling.
        "seconds": sum(line.get("time/step_seconds", 0.0) for line in lines),
    }


def table(results: Iterable[Mapping[str, Any]]) -> str:
    """The results as a Markdown table.

    Args:
        results: from `measure`.
    """
    rows = [
        "| batch, rate rule | negatives | peak rate | updates | video | audio | contrastive (of log 32) "
        "| recall@5 | seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        contrast = result["contrastive"] / result["levels"]
        cells = (
            result["name"],
            result["negatives"],
            f"{result['peak_rate']:.2g}",
            result["updates"],
            f"{result['video']:.3f}",
            f"{result['audio']:.3f}",
            f"{contrast:.2f} ({contrast / math.log(NEGATIVES):.0%})",
            f"{result['recall@5']:.1%} (chance {result['chance@5']:.1%})",
            f"{result['seconds']:.0f}",
        )
        rows.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(rows)


def main(argv: list[str]) -> int:
    """Makes the data, trains the variants that have no result yet, and prints the table of all results.

    With --measure it trains and scores one variant, writes its result and prints it.
    """
    root, epochs = Path(FLAGS.root).resolve(), FLAGS.epochs
    if FLAGS.measure:
        jax.config.update("jax_compilation_cache_dir", str(root / "compiled"))
        result = measure(root, FLAGS.clips, FLAGS.measure, VARIANTS[FLAGS.measure], epochs)
        path = result_path(root, FLAGS.measure, epochs)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result) + "\n", encoding="utf-8")
        print(json.dumps(result))
        return 0
    run_all(stages(root, FLAGS.clips, epochs, FLAGS.only or VARIANTS), Record(root))
    paths = [result_path(root, name, epochs) for name in VARIANTS]
    print()
    print(table(json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()))
    return 0


def define_flags() -> None:
    """Declares the command line."""
    flags.DEFINE_string("root", None, "Directory for data, runs and results.", required=True)
    flags.DEFINE_integer("clips", 1152, "Clips to make up; a ninth of them are for scoring.", lower_bound=72)
    flags.DEFINE_integer("epochs", 32, "Passes over the data, in every run.", lower_bound=1)
    flags.DEFINE_multi_enum("only", [], list(VARIANTS), "Variants to train; by default all.")
    flags.DEFINE_enum("measure", None, list(VARIANTS), "Train and score this variant only, in this process.")


if __name__ == "__main__":
    command.run("large_batch", define_flags, main, resumable=True)
