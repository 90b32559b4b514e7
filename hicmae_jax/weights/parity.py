"""Comparison of this project's model with the PyTorch model of the same weights."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from hicmae_jax.model import masking
from hicmae_jax.model.config import ExecutionConfig, MaskConfig, ModelConfig
from hicmae_jax.model.hicmae import HiCMAE
from hicmae_jax.model.hicmae import forward as forward_here
from hicmae_jax.model.inputs import ModelInputs
from hicmae_jax.objective import pretrain as objective
from hicmae_jax.objective.config import LossConfig

if TYPE_CHECKING:
    from hicmae_jax.weights.torch_model import Config

RELATIVE, ABSOLUTE = 1e-4, 1e-5
CLIPS = 2


def worst_disagreements(
    params: Any,
    state: Mapping[str, np.ndarray],
    model: ModelConfig,
    masks: MaskConfig,
    loss: LossConfig,
    execution: ExecutionConfig = ExecutionConfig(),
) -> dict[str, float]:
    """Compare predictions and loss terms of both implementations on random clips, in float32.

    Args:
        params: parameters of this project's model.
        state: the exported weights, under PyTorch's names.
        model: configuration of both models.
        masks: of the clips.
        loss: choices of the objective; the negatives are all clips.
        execution: how the model is computed here; its dtype becomes float32.

    Returns:
        See `disagreements`.

    Raises:
        ImportError: PyTorch is not installed.
        RuntimeError: the weights do not fit the PyTorch model.
    """
    clips = random_clips(model, masks)
    here = compute_here(params, clips, model, loss, execution)
    return disagreements(here, compute_there(state, clips, model, loss))


def compute_here(
    params: Any,
    clips: ModelInputs,
    model: ModelConfig,
    loss: LossConfig,
    execution: ExecutionConfig = ExecutionConfig(),
) -> dict[str, np.ndarray]:
    """Predictions and loss terms of this project's model, in float32."""
    hicmae = HiCMAE(model, dataclasses.replace(execution, dtype="float32"))
    loss = dataclasses.replace(loss, negatives="global")

    @jax.jit
    def forward(params: Any, clips: ModelInputs) -> dict[str, jax.Array]:
        output = forward_here(hicmae, params, clips)
        goals = objective.masked_targets(hicmae, clips, loss.frame_difference)
        terms = objective.loss_terms(output, *goals, loss)
        return named(output.video, output.audio, terms)

    return jax.device_get(forward(params, clips))


def compute_there(
    state: Mapping[str, np.ndarray], clips: ModelInputs, model: ModelConfig, loss: LossConfig
) -> dict[str, np.ndarray]:
    """Predictions and loss terms of the PyTorch model, from weights under its names.

    Raises:
        ImportError: PyTorch is not installed.
        RuntimeError: the weights do not fit the model.
    """
    import torch

    from hicmae_jax.weights import torch_model

    twin = torch_model.PretrainModel(torch_config(model), loss.frame_difference)
    twin.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
    video, log_mel = (torch.tensor(np.asarray(array)) for array in clips[:2])
    with torch.no_grad():
        output = twin(video, log_mel, *(torch_mask(mask) for mask in clips[2:]))
        terms = torch_model.pretrain_loss(output, loss.temperature, loss.contrastive_weight)
    return jax.tree.map(np.asarray, named(output.video, output.audio, terms))


def torch_config(model: ModelConfig) -> "Config":
    """The PyTorch model's configuration of a model.

    Raises:
        ImportError: PyTorch is not installed.
    """
    from hicmae_jax.weights.torch_model import Config

    return Config(**{field.name: getattr(model, field.name) for field in dataclasses.fields(Config)})


def torch_mask(mask: masking.TokenMask) -> Any:
    """A mask for the PyTorch model: indices int64 of visible and of masked tokens."""
    import torch

    return tuple(torch.tensor(np.asarray(indices)).long() for indices in mask)


def named(video: Any, audio: Any, terms: Mapping[str, Any]) -> dict[str, Any]:
    """Predictions and loss terms under the names that the comparison prints."""
    return {"video": video, "audio": audio} | {f"loss {name}": value for name, value in terms.items()}


def disagreements(here: Mapping[str, np.ndarray], there: Mapping[str, Any]) -> dict[str, float]:
    """Compare two computations of the same quantities.

    Returns:
        Quantity → largest |here - there| divided by the tolerance `ABSOLUTE` + `RELATIVE` · |there|; above 1
        they disagree. A value that is not finite gives infinity.
    """
    return {name: _worst(value, np.asarray(there[name])) for name, value in here.items()}


def _worst(here: np.ndarray, there: np.ndarray) -> float:
    distance = np.abs(here - there) / (ABSOLUTE + RELATIVE * np.abs(there))
    return float(np.where(np.isfinite(distance), distance, np.inf).max(initial=0))


def random_clips(model: ModelConfig, masks: MaskConfig, seed: int = 0, clips: int = CLIPS) -> ModelInputs:
    """Clips of noise, as from `noise`, and masks for them."""

    def draw(stream: int, kind: str, *of: Any) -> masking.TokenMask:
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), stream), clips)
        return jax.vmap(lambda key: masking.draw_mask(kind, key, *of))(keys)

    return ModelInputs(
        *noise(model, seed, clips),
        draw(
            0,
            masks.video_kind,
            model.video_grid,
            masks.video_ratio,
            masks.video_decode_fraction,
            masks.video_decode_kind,
        ),
        draw(1, masks.audio_kind, model.audio_grid, masks.audio_ratio, masks.audio_decode_fraction),
    )


def noise(model: ModelConfig, seed: int = 0, clips: int = CLIPS) -> tuple[jax.Array, jax.Array]:
    """Clips of noise: uint8 video and float32 log-mel."""
    rng = np.random.default_rng(seed)
    side = model.image_size
    video = rng.integers(0, 256, (clips, model.frames, side, side, 3), np.uint8)
    log_mel = rng.standard_normal((clips, model.audio_frames, model.audio_bins), np.float32)
    return jnp.asarray(video), jnp.asarray(log_mel)
