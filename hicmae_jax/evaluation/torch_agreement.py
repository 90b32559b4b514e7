"""Whether exported weights give in PyTorch what they give here."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from hicmae_jax import masking, objective
from hicmae_jax.config import LossConfig, MaskConfig, ModelConfig
from hicmae_jax.model import HiCMAE

RELATIVE, ABSOLUTE = 1e-4, 1e-5
CLIPS = 2


def worst_disagreements(
    params: Any,
    state: Mapping[str, np.ndarray],
    config: ModelConfig,
    masks: MaskConfig,
    loss: LossConfig,
    seed: int = 0,
) -> dict[str, float]:
    """Compare predictions and loss terms on random clips, in float32.

    Args:
        params: parameters here.
        state: the exported weights, by PyTorch's names.
        config: the model.
        masks: of the clips.
        loss: the objective.
        seed: of clips and masks.

    Returns:
        Quantity → largest |here - there| as a multiple of what is allowed, `ABSOLUTE` + `RELATIVE` · |there|:
        above 1 is a disagreement. A value that is not finite counts as infinitely far off.

    Raises:
        ImportError: PyTorch is not installed.
        RuntimeError: the weights do not fit the model there.
    """
    import torch

    from hicmae_jax import torch_model

    config = dataclasses.replace(config, dtype="float32")
    # Contrast needs no groups to be compared.
    loss = dataclasses.replace(loss, negatives="global")
    video, log_mel, video_mask, audio_mask = _random_clips(config, masks, seed)

    names = [field.name for field in dataclasses.fields(torch_model.Config)]
    twin = torch_model.PretrainModel(
        torch_model.Config(**{name: getattr(config, name) for name in names}), loss.frame_difference
    )
    twin.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
    there_masks = (
        tuple(torch.tensor(np.asarray(part)).long() for part in mask) for mask in (video_mask, audio_mask)
    )
    with torch.no_grad():
        output = twin(torch.tensor(video), torch.tensor(log_mel), *there_masks)
        terms = torch_model.pretrain_loss(output, loss.temperature, loss.contrastive_weight)
    there = {"video": output.video, "audio": output.audio} | {f"loss {name}": terms[name] for name in terms}

    model = HiCMAE(config)

    @jax.jit
    def forward(params: Any) -> dict[str, jax.Array]:
        of = model.apply({"params": params}, video, log_mel, video_mask, audio_mask)
        goals = objective.masked_targets(model, video, log_mel, video_mask, audio_mask, loss.frame_difference)
        terms = objective.combine(of, *goals, loss)
        return {"video": of.video, "audio": of.audio} | {f"loss {name}": terms[name] for name in terms}

    here = forward(params)
    return {name: _worst(np.asarray(here[name]), np.asarray(there[name])) for name in there}


def _worst(here: np.ndarray, there: np.ndarray) -> float:
    distance = np.abs(here - there) / (ABSOLUTE + RELATIVE * np.abs(there))
    return float(np.where(np.isfinite(distance), distance, np.inf).max(initial=0))


def _random_clips(config: ModelConfig, masks: MaskConfig, seed: int) -> tuple[Any, ...]:
    """uint8 video, float32 log-mel and both masks of `CLIPS` clips of noise."""
    rng = np.random.default_rng(seed)
    side = config.image_size
    video = rng.integers(0, 256, (CLIPS, config.frames, side, side, 3), np.uint8)
    log_mel = rng.standard_normal((CLIPS, config.audio_frames, config.audio_bins), np.float32)

    def draw(stream: int, kind: str, *of: Any) -> masking.TokenMask:
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), stream), CLIPS)
        return jax.vmap(lambda key: masking.draw_mask(kind, key, *of))(keys)

    video_mask = draw(0, masks.video_kind, config.video_grid, masks.video_ratio, masks.video_decode_fraction)
    audio_mask = draw(1, masks.audio_kind, config.audio_grid, masks.audio_ratio, masks.audio_decode_fraction)
    return video, log_mel, video_mask, audio_mask
