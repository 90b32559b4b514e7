"""Scores and pictures of a trained model beside the untrained one, on the same held-out clips."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from data_pipeline.format.host_batch import HostBatch
from data_pipeline.reading.fixed_clips import FixedClips
from hicmae_jax.evaluation.batched import BatchedApply
from hicmae_jax.evaluation.embeddings import embed_clips
from hicmae_jax.evaluation.figures.reconstructions import reconstruction_rows
from hicmae_jax.evaluation.reconstruction import Picture, draw_clips, reconstruction_errors, score_clips
from hicmae_jax.evaluation.retrieval import DIRECTIONS, Recall, retrieval
from hicmae_jax.model.config import ExecutionConfig, MaskConfig, ModelConfig
from hicmae_jax.objective.config import LossConfig
from hicmae_jax.preprocessing.pretrain import PreprocessConfig

TRAINED, UNTRAINED = "trained", "untrained"
KS = (1, 5, 10)
PICTURE_MASKS = (
    MaskConfig(video_ratio=0.75, audio_ratio=0.6),
    MaskConfig(video_ratio=0.9, audio_ratio=0.8),
)
"""The masks of paper figure 8."""

# Contender → layer → direction → k → recall.
Retrieval = dict[str, dict[int, dict[str, dict[int, Recall]]]]


@dataclasses.dataclass(frozen=True)
class Scores:
    """Scores of all contenders.

    Attributes:
        clips: number of clips that were scored.
        errors: contender → `video`, `audio`, `total` masked reconstruction error.
        retrieval: contender → layer → direction → k → recall.
    """

    clips: int
    errors: dict[str, dict[str, float]]
    retrieval: Retrieval

    def to_dict(self) -> dict[str, Any]:
        """The scores as plain values, for JSON."""
        recalls = {
            contender: {
                f"layer {layer}": {
                    direction: {f"recall@{k}": recall._asdict() for k, recall in by_k.items()}
                    for direction, by_k in by_direction.items()
                }
                for layer, by_direction in by_layer.items()
            }
            for contender, by_layer in self.retrieval.items()
        }
        return {"clips": self.clips, "reconstruction": self.errors, "retrieval": recalls}

    def as_text(self) -> str:
        """The scores as two tables."""
        lines = [f"{'masked reconstruction error':30}{'video':>9}{'audio':>9}{'total':>9}"]
        for name, of in self.errors.items():
            lines.append(f"  {name:28}{of['video']:9.4f}{of['audio']:9.4f}{of['total']:9.4f}")
        lines += ["", f"{f'retrieval among {self.clips} clips':30}" + "".join(f"{f'@{k}':>20}" for k in KS)]
        for contender, by_layer in self.retrieval.items():
            for layer, by_direction in by_layer.items():
                cells = (
                    f"{of.recall:8.1%} ({of.low:.1%}–{of.high:.1%})" for of in by_direction["mean"].values()
                )
                lines.append(
                    f"  {f'{contender}, layer {layer}':28}" + "".join(f"{cell:>20}" for cell in cells)
                )
        chances = [of.chance for of in next(iter(self.retrieval[TRAINED].values()))["mean"].values()]
        lines.append(f"  {'chance':28}" + "".join(f"{chance:>20.1%}" for chance in chances))
        lines.append(f"  recall@k, mean of {DIRECTIONS[0]} and {DIRECTIONS[1]}, with 95 % intervals")
        return "\n".join(lines)


def score(
    contenders: Mapping[str, Any],
    clips: FixedClips,
    preprocess: PreprocessConfig,
    loss: LossConfig,
    execution: ExecutionConfig = ExecutionConfig(),
) -> Scores:
    """Score every contender on the same clips under the same masks.

    Args:
        contenders: name → parameters; one of the names is `TRAINED`.
        clips: held-out clips.
        preprocess: geometry and masks.
        loss: defines the targets.
        execution: how the model is computed.

    Raises:
        OSError: no clip can be read.
        ValueError: features are not finite.
    """
    of_masked = BatchedApply(score_clips(preprocess, loss, execution), clips.batch)
    embed = BatchedApply(embed_clips(preprocess, execution), clips.batch)
    masked = {name: of_masked(params, clips) for name, params in contenders.items()}
    retrieved = {
        name: {
            layer: retrieval(video, audio, ks=KS) for layer, (video, audio) in embed(params, clips).items()
        }
        for name, params in contenders.items()
    }
    return Scores(len(masked[TRAINED].video), reconstruction_errors(masked), retrieved)


def picture_blocks(
    contenders: Mapping[str, Any],
    batches: Iterable[HostBatch[np.ndarray]],
    rows: int,
    preprocess: PreprocessConfig,
    loss: LossConfig,
    execution: ExecutionConfig = ExecutionConfig(),
) -> dict[str, dict[str, Picture]]:
    """Pictures for `figures.reconstructions`: one block for each of `PICTURE_MASKS`, with every contender.

    Args:
        contenders: name → parameters.
        batches: batches of the clips to show.
        rows: largest number of clips in a batch.
        preprocess: geometry.
        loss: defines the meaning of a prediction.
        execution: how the model is computed.
    """
    blocks = {}
    for masks in PICTURE_MASKS:
        draw = BatchedApply(draw_clips(dataclasses.replace(preprocess, masks=masks), loss, execution), rows)
        blocks[masked_shares(masks, preprocess.model)] = reconstruction_rows(
            {name: draw(params, batches) for name, params in contenders.items()}
        )
    return blocks


def masked_shares(masks: MaskConfig, model: ModelConfig) -> str:
    """How much is masked, in words. Of a few large patches that can be far less than the ratios say."""
    (video, _), (audio, _) = masks.sizes(model)
    shares = 1 - video / model.video_tokens, 1 - audio / model.audio_tokens
    return "{:.0%} of the picture and {:.0%} of the sound masked".format(*shares)
