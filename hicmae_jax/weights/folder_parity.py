"""Comparison of this project's model with what PyTorch computes from a folder of exported weights."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from hicmae_jax.model import tokens
from hicmae_jax.model.config import ExecutionConfig, MaskConfig, ModelConfig
from hicmae_jax.model.finetune import HiCMAEFinetune
from hicmae_jax.model.hicmae import Encoder, FusionEncoder
from hicmae_jax.model.inputs import ModelInputs
from hicmae_jax.objective.config import LossConfig
from hicmae_jax.weights import parity
from hicmae_jax.weights.trained import Trained


def worst_of_folder(
    folder: epath.PathLike,
    trained: Trained,
    masks: MaskConfig,
    loss: LossConfig,
) -> dict[str, float]:
    """Compare features of all layers, and the outputs, of both implementations on clips of noise, in float32.

    The outputs are predictions and loss terms of a pre-training model, or logits and the features of the head
    of a fine-tuned one.

    Args:
        folder: the exported weights.
        trained: the model that they must be.
        masks: of the clips, for a pre-training model.
        loss: choices of its objective; the negatives are all clips.

    Returns:
        See `parity.disagreements`.

    Raises:
        ImportError: PyTorch is not installed.
        ValueError: PyTorch cannot load the folder.
    """
    clips: ModelInputs | tuple[jax.Array, jax.Array]
    if trained.finetune is None:
        clips = parity.random_clips(trained.model, masks)
        here = parity.compute_here(trained.params, clips, trained.model, loss)
    else:
        clips = parity.noise(trained.model)
        here = _finetuned_here(trained, *clips)
    here |= features_here(trained.params, clips[0], clips[1], trained.model)
    return parity.disagreements(here, _there(folder, clips, loss))


def features_here(
    params: Mapping[str, Any], video: jax.Array, log_mel: jax.Array, config: ModelConfig
) -> dict[str, np.ndarray]:
    """Features of the encoders that a model has, and of its fusion encoder.

    Args:
        params: parameters, layers not stacked.
        video: [B, T, H, W, 3], uint8 or floats in [0, 1].
        log_mel: float[B, time, bins], normalised.
        config: configuration of the model.

    Returns:
        `video layers` and `audio layers`: float32[layers, B, C], means over tokens; `fused video` and `fused
        audio`: float32[B, tokens, C].
    """
    every = range(1, config.encoder_depth + 1)
    patches = {
        "encoder": tokens.normalise(tokens.pixels(tokens.tubelets(video, config.tubelet, config.patch))),
        "encoder_audio": tokens.audio_patches(log_mel, config.patch),
    }

    @jax.jit
    def compute(params: Mapping[str, Any]) -> dict[str, jax.Array]:
        found, last = {}, {}
        for name, values in patches.items():
            if name not in params:
                continue
            positions = tokens.sinusoidal_positions(values.shape[1], config.encoder_dim)
            encoder = Encoder(config, ExecutionConfig())
            output: Any = encoder.apply({"params": params[name]}, values, jnp.asarray(positions)[None], every)
            last[name], layers = output
            kind = "audio" if name.endswith("audio") else "video"
            found[f"{kind} layers"] = jnp.stack([layer.mean(1) for layer in layers])
        if len(last) == 2:
            fusion = FusionEncoder(config, ExecutionConfig())
            fused: Any = fusion.apply({"params": params["encoder_fusion"]}, *last.values(), None)
            found |= {"fused video": fused[0], "fused audio": fused[1]}
        return found

    return jax.device_get(compute(params))


def _finetuned_here(trained: Trained, video: jax.Array, log_mel: jax.Array) -> dict[str, np.ndarray]:
    assert trained.finetune is not None
    model = HiCMAEFinetune(trained.model, trained.finetune)
    output: Any = jax.jit(model.apply)({"params": trained.params}, video, log_mel)
    return jax.device_get({"logits": output.logits, "features of the head": output.feature})


def _there(folder: epath.PathLike, clips: Any, loss: LossConfig) -> dict[str, np.ndarray]:
    import torch

    from hicmae_jax.weights import torch_model

    model = torch_model.HiCMAE.from_pretrained(str(folder))
    video, log_mel = (torch.tensor(np.asarray(array)) for array in clips[:2])
    found: dict[str, Any]
    with torch.no_grad():
        if model.task is None:
            masks = [parity.torch_mask(mask) for mask in clips[2:]]
            output = model(video, log_mel, *masks)
            terms: Any = torch_model.pretrain_loss(output, loss.temperature, loss.contrastive_weight)
            found = parity.named(output.video, output.audio, terms)
        else:
            found = {"logits": model(video, log_mel), "features of the head": model.features(video, log_mel)}
    kinds = ("video", "audio") if model.task is None else torch_model.MODALITIES[model.task.modality]
    features = model.extract_features(
        video if "video" in kinds else None, log_mel if "audio" in kinds else None
    )
    pooled = {"video": features.video_pooled, "audio": features.audio_pooled}
    found |= {f"{kind} layers": torch.stack([*(pooled[kind] or {}).values()]) for kind in kinds}
    if len(kinds) == 2:
        found |= {"fused video": features.fused_video, "fused audio": features.fused_audio}
    return jax.tree.map(np.asarray, found)
