"""The objective in its plain form: all tokens are embedded, all rows decoded, masks are booleans.

It uses the blocks of the model, but not the code that leaves out tokens and rows. If both are equal, leaving
them out changes nothing.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from hicmae_jax.model import layers, tokens
from hicmae_jax.model.config import ExecutionConfig, ModelConfig
from hicmae_jax.objective import targets
from hicmae_jax.objective.config import LossConfig


def dense(params, x):
    return nn.Dense(params["kernel"].shape[-1], use_bias="bias" in params).apply({"params": params}, x)


def norm(params, x):
    return layers.layer_norm(ExecutionConfig()).apply({"params": params}, x)


def block(params, heads, x, context=None):
    if context is None:
        return layers.Block(heads).apply({"params": params}, x)
    return layers.CrossBlock(heads).apply({"params": params}, x, context)


def boolean(indices: jax.Array, count: int) -> np.ndarray:
    out = np.zeros((indices.shape[0], count), bool)
    np.put_along_axis(out, np.asarray(indices), True, axis=1)
    return out


def pick(x: jax.Array, mask: np.ndarray) -> jax.Array:
    return x[mask].reshape(x.shape[0], -1, x.shape[-1])


def encode(config: ModelConfig, params, values, visible):
    position = tokens.sinusoidal_positions(values.shape[1], config.encoder_dim)
    x = pick(dense(params["patch_embed"], values) + position, visible)
    levels = []
    for i in range(config.encoder_depth):
        x = block(params[f"blocks_{i}"], config.encoder_heads, x)
        levels.append(norm(params["norm"], x))
    return levels


def fuse(config: ModelConfig, params, video, audio):
    video_0, audio_0 = video, audio
    heads = config.encoder_heads
    for i in range(config.fusion_depth):
        own, other = params[f"blocks_{i}"], params[f"blocks_audio_{i}"]
        match config.fusion_flow:
            case "default":
                video, audio = block(own, heads, video, audio), block(other, heads, audio, video)
            case "raw-input":
                video, audio = block(own, heads, video, audio_0), block(other, heads, audio, video_0)
            case "video-first":
                video = block(own, heads, video, audio)
                audio = block(other, heads, audio, video)
            case "audio-first":
                audio = block(other, heads, audio, video)
                video = block(own, heads, video, audio)
    return norm(params["norm"], video), norm(params["norm_audio"], audio)


def decode(config: ModelConfig, params, suffix, fused, levels, visible, masked):
    count = visible.shape[1]
    position = jnp.broadcast_to(
        tokens.sinusoidal_positions(count, config.decoder_dim), (len(visible), count, config.decoder_dim)
    )
    to_decoder = params[f"encoder_to_decoder{suffix}"]
    mask_tokens = jnp.broadcast_to(params[f"mask_token{suffix}"], position.shape)
    x = jnp.concatenate(
        [dense(to_decoder, fused) + pick(position, visible), pick(mask_tokens + position, masked)], 1
    )
    order = config.skip_layers if config.skip_order == "shallowest-first" else config.skip_layers[::-1]
    decoder = params[f"decoder{suffix}"]
    for i in range(config.decoder_depth):
        context = None
        if config.skip_connections and 1 <= i <= len(order):
            context = dense(to_decoder, levels[order[i - 1] - 1]) + pick(position, visible)
        x = block(decoder[f"blocks_{i}"], config.decoder_heads, x, context)
    return dense(decoder["head"], norm(decoder["norm"], x))[:, fused.shape[1] :]


def contrast(video, audio, temperature, group):
    total = 0.0
    for start in range(0, len(video), group):
        v, a = (x[start : start + group] for x in (video, audio))
        v, a = (x / jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (v, a))
        logits = v @ a.T / temperature
        for rows in (logits, logits.T):
            total -= 0.5 * jnp.diag(jax.nn.log_softmax(rows)).sum()
    return total / len(video)


def loss(config: ModelConfig, objective: LossConfig, params, video, log_mel, video_mask, audio_mask):
    pixels = tokens.pixels(tokens.tubelets(video, config.tubelet, config.patch))
    spectra = tokens.audio_patches(log_mel, config.patch)
    masks = [boolean(part, config.video_tokens) for part in video_mask]
    masks_audio = [boolean(part, config.audio_tokens) for part in audio_mask]
    levels = encode(config, params["encoder"], tokens.normalise(pixels), masks[0])
    levels_audio = encode(config, params["encoder_audio"], spectra, masks_audio[0])
    fused = fuse(config, params["encoder_fusion"], levels[-1], levels_audio[-1])
    prediction = decode(config, params, "", fused[0], levels, *masks)
    prediction_audio = decode(config, params, "_audio", fused[1], levels_audio, *masks_audio)
    goal = pick(targets.video_targets(pixels, config.tubelet, objective.frame_difference), masks[1])
    goal_audio = pick(targets.audio_targets(spectra), masks_audio[1])
    group = len(video) if objective.negatives == "global" else int(objective.negatives.split(":")[1])
    contrastive = sum(
        contrast(levels[i - 1].mean(1), levels_audio[i - 1].mean(1), objective.temperature, group)
        for i in config.skip_layers
    )
    return (
        ((prediction - goal) ** 2).mean()
        + ((prediction_audio - goal_audio) ** 2).mean()
        + objective.contrastive_weight * contrastive
    )
