"""What a larger batch does to training at equal epochs, and which remedy helps, on made-up talking faces.

    python -m benchmarks.large_batch --root=runs/large_batch [--epochs=32] [--only='512, sqrt']

Makes and prepares the corpus, trains every variant of `VARIANTS`, and scores each on the same speakers never
seen. `--root` keeps everything: the same command goes on where it was interrupted, and one that is finished
prints its table again. `results.jsonl` holds a line a run. On one core it takes 40 to 60 minutes.

The model is as small as still learns. Rates are anchored at batch 32: all AdamW runs of a batch of 32 would
have the same. Contrast is scored against 31 negatives for all, whatever a run was trained with, for its loss
grows with the logarithm of their number.
"""

import dataclasses
import json
import math
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
from absl import app, flags

from configs import demo
from data_pipeline.format.clip_sampling import ClipSampling
from data_pipeline.reading.fixed_clips import FixedClips
from hicmae_jax.checkpoints.load import load_parameters
from hicmae_jax.evaluation.held_out import HeldOut
from hicmae_jax.logs.metrics import read_metrics
from hicmae_jax.runs import pretrain
from hicmae_jax.settings import pretrain as run_config
from hicmae_jax.settings.pretrain import RunConfig
from hicmae_jax.training import optimizer as optim

FLAGS = flags.FLAGS

CLIPS_EACH = 8
"""Of a speaker; one speaker of nine is for scoring."""
SECONDS = "3,3"
ANCHOR, RATE_AT_ANCHOR = 32, 2e-3
NEGATIVES = 32
"""Clips that are contrasted with each other when a run is scored."""
WARMUP_SHARE = 0.1
"""Of the clips that are seen, in every run."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """One run.

    Attributes:
        batch: clips to an update.
        rule: how the rate follows from that at batch 32.
        kind: of optimiser.
        negatives: as the recipe's.
        rate: at batch 32.
        seed: of everything drawn.
    """

    batch: int
    rule: str = "fixed"
    kind: str = "adamw"
    negatives: str = "global"
    rate: float = RATE_AT_ANCHOR
    seed: int = 0

    def changes(self, epochs: int, clips: int) -> dict[str, Any]:
        """Settings in which it differs from the others."""
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


# Of 32 at a quarter of the rate, `sqrt` and `linear` would make `512, fixed` and `512, sqrt`.
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


def settings(root: Path, changes: dict[str, Any]) -> RunConfig:
    """The demo's configuration, smaller yet, with a variant's changes."""
    config = demo.get_config()
    config.steps = config.warmup_steps = None
    smaller = {
        "model.image_size": 64,
        "model.frames": 4,
        "model.audio_frames": 128,
        "model.encoder_dim": 64,
        "model.encoder_heads": 2,
        "model.encoder_depth": 3,
        "model.skip_layers": (2, 3),
        "model.decoder_dim": 48,
        "model.decoder_depth": 3,
        "model.fusion_depth": 1,
        # 4 of 16 places stay, and few masked tokens are decoded: contrast is what is looked at.
        "masks.video_ratio": 0.75,
        "masks.video_decode_fraction": 0.5,
        "masks.audio_decode_fraction": 0.25,
        "data.sets": (str(root / "dev"),),
        "data.stride": 16,
        "data.threads": 1,
        "checkpoint.every": 1_000_000,
        "log.every": 1,
        "evaluation.every": None,
    }
    config.update_from_flattened_dict(smaller | changes)
    return run_config.from_config_dict(config, "cpu")


def make_data(root: Path, clips: int) -> None:
    """Make up the corpus and prepare both splits, or go on with that.

    Args:
        root: where.
        clips: in both splits together.

    Raises:
        subprocess.CalledProcessError: a command has failed, and said why.
    """

    def launch(command: str, *options: str) -> None:
        subprocess.run([sys.executable, "-m", f"launch.{command}", *options, "--workers=1"], check=True)

    raw = root / "raw"
    speakers = clips // CLIPS_EACH
    sizes = (f"--clips={clips}", f"--speakers={speakers}", f"--test_speakers={speakers // 9}")
    if not (root / "test" / "dataset.json").exists():
        launch("make_corpus", f"--root={raw}", *sizes, f"--seconds={SECONDS}")
        for split in ("dev", "test"):
            launch("prepare", f"--input={raw}", f"--output={root / split}", f"--split={split}")


def measure(root: Path, clips: int, name: str, variant: Variant, epochs: int) -> dict[str, Any]:
    """Train a variant, and score it.

    Args:
        root: with the data; the run is kept beside them.
        clips: in both splits.
        name: of the variant.
        variant: what to train.
        epochs: passes over the data.
    """
    config = settings(root, variant.changes(epochs, clips * 8 // 9))
    directory = root / "runs" / f"{epochs}" / name.replace(", ", "_").replace(" ", "").replace(":", "")
    pretrain.run(config, directory, show_progress=False)
    lines = [line for line in read_metrics(directory) if "rate" in line]
    sampling = ClipSampling(config.data.frames, config.data.stride)
    test = FixedClips((str(root / "test"),), sampling, NEGATIVES, clips, 1)
    scores = HeldOut(test, config.preprocess, config.loss, NEGATIVES)(load_parameters(directory)[0])
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
        **{term: scores[f"held_out/{term}"] for term in ("total", "video", "audio", "contrastive")},
        "recall@5": scores[f"held_out/recall@5/layer_{last}"],
        "chance@5": scores["held_out/chance@5"],
        # Without the first update, which is compiled.
        "seconds": sum(line.get("time/step_seconds", 0.0) for line in lines),
    }


def table(results: Iterable[dict[str, Any]]) -> str:
    """The results in Markdown."""
    rows = [
        "| batch, rate rule | negatives | peak rate | updates | video | audio | contrastive (of log 32) "
        "| recall@5 | seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for of in results:
        contrast = of["contrastive"] / of["levels"]
        cells = (
            of["name"],
            of["negatives"],
            f"{of['peak_rate']:.2g}",
            of["updates"],
            f"{of['video']:.3f}",
            f"{of['audio']:.3f}",
            f"{contrast:.2f} ({contrast / math.log(NEGATIVES):.0%})",
            f"{of['recall@5']:.1%} (chance {of['chance@5']:.1%})",
            f"{of['seconds']:.0f}",
        )
        rows.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(rows)


def main(argv: list[str]) -> None:
    """Makes data, trains what has no result yet, and prints the table."""
    del argv
    root = Path(FLAGS.root).resolve()
    root.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(root / "compiled"))
    make_data(root, FLAGS.clips)
    file = root / "results.jsonl"
    before = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    done = {of["name"]: of for of in before if of["epochs"] == FLAGS.epochs}
    for name, variant in VARIANTS.items():
        if name in done or (FLAGS.only and name not in FLAGS.only):
            continue
        done[name] = result = measure(root, FLAGS.clips, name, variant, FLAGS.epochs)
        with file.open("a") as lines:
            lines.write(json.dumps(result) + "\n")
        print(json.dumps(result), flush=True)
    print(table(done[name] for name in VARIANTS if name in done))


if __name__ == "__main__":
    flags.DEFINE_string("root", None, "Where data, runs and results are kept.", required=True)
    flags.DEFINE_integer("clips", 1152, "Clips to make up; a ninth are for scoring.", lower_bound=72)
    flags.DEFINE_integer("epochs", 32, "Passes over the data, of every run.", lower_bound=1)
    flags.DEFINE_multi_string("only", [], "Names of variants; by default all.")
    app.run(main)
