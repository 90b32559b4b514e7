"""HiCMAE for pre-training: two encoders, a fusion encoder and two decoders with skips (paper section 3.1)."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from hicmae_jax.model import tokens
from hicmae_jax.model.config import ExecutionConfig, ModelConfig
from hicmae_jax.model.inputs import ModelInputs
from hicmae_jax.model.layers import (
    Block,
    CrossBlock,
    Initializer,
    keep_batch_sharding,
    layer_norm,
    remat,
    torch_uniform,
    truncated_normal,
    xavier_uniform,
)
from hicmae_jax.model.masking import TokenMask
from hicmae_jax.model.products import dense


class PretrainOutput(NamedTuple):
    """Output of the pre-training model.

    Attributes:
        video: float32[B, N_masked, tubelet values], reconstruction of the masked video tokens; None without
            reconstruction.
        audio: float32[B, N_masked, patch values], likewise for audio.
        video_levels: float32[B, C] for each tapped layer, in `skip_layers` order: the mean of the normalised
            features over the visible tokens, for the contrastive loss.
        audio_levels: likewise for audio.
    """

    video: jax.Array | None
    audio: jax.Array | None
    video_levels: tuple[jax.Array, ...]
    audio_levels: tuple[jax.Array, ...]


class Encoder(nn.Module):
    """Modality-specific encoder: embedding, positions, N_s blocks, one LayerNorm that all levels share.

    Attributes:
        config: geometry and widths.
        execution: how it is computed.
        kernel_init: initialiser of the blocks' matrices.
    """

    config: ModelConfig
    execution: ExecutionConfig = ExecutionConfig()
    kernel_init: Initializer = xavier_uniform

    @nn.compact
    def __call__(
        self,
        values: jax.Array,
        positions: jax.Array,
        layers: Sequence[int],
        drop_rates: jax.Array | None = None,
    ) -> tuple[jax.Array, list[jax.Array]]:
        """Encode tokens.

        Args:
            values: [B, N, values] of the tokens to encode.
            positions: [B or 1, N, C].
            layers: 1-based numbers of the layers to return.
            drop_rates: float32[N_s] stochastic-depth rates; None is deterministic.

        Returns:
            The normalised output [B, N, C] of the last layer, and that of each of `layers`.
        """
        config, execution = self.config, self.execution
        dtype = jnp.dtype(execution.dtype)
        # The published code has a convolution with stride = kernel, which is this matrix product.
        init = torch_uniform(values.shape[-1])
        embed = dense(config.encoder_dim, execution, kernel_init=init, bias_init=init, name="patch_embed")
        x = keep_batch_sharding(embed(values)) + positions.astype(dtype)
        outputs: Sequence[jax.Array] | jax.Array  # of every layer
        scan, straight = execution.scan_encoders, _straight(execution)
        block = remat(Block, execution.remat_encoder, prevent_cse=straight or not scan)
        if scan:
            run = nn.scan(
                _scanned_block,
                variable_axes={"params": 0},
                split_rngs={"params": True, "drop_path": True},
                length=config.encoder_depth,
                unroll=config.encoder_depth if straight else 1,
            )
            blocks = block(config.encoder_heads, execution, kernel_init=self.kernel_init, name="blocks")
            _, outputs = run(blocks, x, drop_rates)
        else:
            unrolled = []
            for i in range(config.encoder_depth):
                rate = None if drop_rates is None else drop_rates[i]
                layer = block(
                    config.encoder_heads, execution, kernel_init=self.kernel_init, name=f"blocks_{i}"
                )
                x = layer(x, rate)
                unrolled.append(x)
            outputs = unrolled
        norm = layer_norm(execution, name="norm")
        normed = {i: norm(outputs[i - 1]) for i in {*layers, config.encoder_depth}}
        return normed[config.encoder_depth], [normed[i] for i in layers]


def _straight(execution: ExecutionConfig) -> bool:
    """Whether stacked layers are compiled one after the other, and not as a loop.

    A loop that recomputes nothing writes what each layer keeps into stacked arrays. On GPUs, the same layers
    one after the other move half as much.
    """
    return execution.attention == "cudnn" and execution.remat_encoder == "none"


def _scanned_block(block: Block, x: jax.Array, drop_rate: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    y = block(x, drop_rate)
    return y, y


class FusionEncoder(nn.Module):
    """Cross-modal fusion encoder (equations 5 and 6) and its information flows (paper figure 5).

    Attributes:
        config: geometry, widths and flow.
        execution: how it is computed.
    """

    config: ModelConfig
    execution: ExecutionConfig = ExecutionConfig()

    @nn.compact
    def __call__(
        self, video: jax.Array, audio: jax.Array, drop_rates: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Fuse the encoders' outputs, [B, N, C] of video and [B, M, C] of audio; shapes are kept."""
        config, execution = self.config, self.execution
        block = remat(CrossBlock, execution.remat_fusion)
        raw_video, raw_audio = video, audio
        for i in range(config.fusion_depth):
            to_video, to_audio = (
                block(config.encoder_heads, execution, name=f"blocks_{name}{i}") for name in ("", "audio_")
            )
            rate = None if drop_rates is None else drop_rates[i]
            if config.fusion_flow == "video-first":
                video = to_video(video, audio, rate)
                audio = to_audio(audio, video, rate)
            elif config.fusion_flow == "audio-first":
                audio = to_audio(audio, video, rate)
                video = to_video(video, audio, rate)
            elif config.fusion_flow == "raw-input":
                video, audio = to_video(video, raw_audio, rate), to_audio(audio, raw_video, rate)
            else:
                video, audio = to_video(video, audio, rate), to_audio(audio, video, rate)
        return layer_norm(execution, name="norm")(video), layer_norm(execution, name="norm_audio")(audio)


class Decoder(nn.Module):
    """Reconstructs masked tokens from visible ones and hierarchical skips (equation 7).

    Attributes:
        config: geometry and widths.
        outputs: values of a token.
        execution: how it is computed.
    """

    config: ModelConfig
    outputs: int
    execution: ExecutionConfig = ExecutionConfig()

    @nn.compact
    def __call__(self, visible: jax.Array, masked: jax.Array, skips: Sequence[jax.Array]) -> jax.Array:
        """Decode.

        Args:
            visible: [B, N_visible, C_d], features mapped to the decoder's width, with positions.
            masked: [B, N_masked, C_d], mask tokens with positions.
            skips: [B, N_visible, C_d] each, contexts of blocks 2, 3, … in this order.

        Returns:
            float32[B, N_masked, outputs].
        """
        config, execution = self.config, self.execution
        x = jnp.concatenate([visible, masked], axis=1)
        for i in range(config.decoder_depth):
            # Visible tokens come first, so the last block computes the trailing rows only.
            last_rows = masked.shape[1] if i == config.decoder_depth - 1 else None
            cross = 0 < i <= len(skips)
            block = remat(CrossBlock if cross else Block, execution.remat_decoder)(
                config.decoder_heads, execution, last_rows, name=f"blocks_{i}"
            )
            x = block(x, skips[i - 1]) if cross else block(x)
        x = layer_norm(execution, name="norm")(x)
        x = dense(self.outputs, execution, kernel_init=xavier_uniform, name="head")(x)
        return keep_batch_sharding(x.astype(jnp.float32))


def forward(
    model: "HiCMAE", params: Mapping[str, Any], inputs: ModelInputs, reconstruct: bool = True
) -> PretrainOutput:
    """Apply the pre-training model to a batch.

    Args:
        model: the model.
        params: its parameters.
        inputs: clips and masks.
        reconstruct: see `HiCMAE.__call__`.
    """
    return cast(PretrainOutput, model.apply({"params": params}, *inputs, reconstruct=reconstruct))


def _check_mask(modality: str, mask: TokenMask, count: int) -> None:
    visible, masked = mask.visible.shape[-1], mask.masked.shape[-1]
    if not visible or not masked or visible + masked > count:
        raise ValueError(
            f"the {modality} mask has {visible} visible and {masked} masked tokens; a clip has {count}, and "
            "needs at least one of each"
        )


class HiCMAE(nn.Module):
    """The pre-training model; it embeds visible tokens only and reconstructs masked ones only.

    Attributes:
        config: geometry, widths and wiring.
        execution: how it is computed.
    """

    config: ModelConfig
    execution: ExecutionConfig = ExecutionConfig()

    @nn.compact
    def __call__(
        self,
        video: jax.Array,
        log_mel: jax.Array,
        video_mask: TokenMask,
        audio_mask: TokenMask,
        reconstruct: bool = True,
    ) -> PretrainOutput:
        """Reconstruct masked tokens and pool the features of every tapped layer.

        Args:
            video: [B, T, H, W, 3], uint8 or floats in [0, 1]; ImageNet normalisation is done here.
            log_mel: float[B, time, bins], normalised.
            video_mask: int32[B, ·] indices of visible and masked tokens.
            audio_mask: likewise for audio.
            reconstruct: False runs the encoders only, which suffices for the levels.

        Raises:
            ValueError: clips of another geometry, or a mask with too many tokens or none on one side.
            TypeError: a video of integers other than uint8.
        """
        config, execution = self.config, self.execution
        config.check_clips(video.shape, log_mel.shape)
        _check_mask("video", video_mask, config.video_tokens)
        _check_mask("audio", audio_mask, config.audio_tokens)
        patches = tokens.tubelets(video, config.tubelet, config.patch)
        # Tokens are selected before any arithmetic: only a tenth of the pixels are normalised and embedded.
        patches = tokens.normalise(tokens.pixels(tokens.take(patches, video_mask.visible)))
        spectra = tokens.take(tokens.audio_patches(log_mel, config.patch), audio_mask.visible)

        video_last, video_taps = self._encode("encoder", patches, video_mask, config.video_tokens)
        audio_last, audio_taps = self._encode("encoder_audio", spectra, audio_mask, config.audio_tokens)
        video_levels = tuple(x.mean(axis=1, dtype=jnp.float32) for x in video_taps)
        audio_levels = tuple(x.mean(axis=1, dtype=jnp.float32) for x in audio_taps)
        if not reconstruct:
            return PretrainOutput(None, None, video_levels, audio_levels)
        fused_video, fused_audio = FusionEncoder(config, execution, name="encoder_fusion")(
            video_last, audio_last
        )
        return PretrainOutput(
            self._decode("", fused_video, video_taps, video_mask, config.video_tokens, config.tubelet_values),
            self._decode(
                "_audio", fused_audio, audio_taps, audio_mask, config.audio_tokens, config.audio_patch_values
            ),
            video_levels,
            audio_levels,
        )

    def _encode(
        self, name: str, values: jax.Array, mask: TokenMask, count: int
    ) -> tuple[jax.Array, list[jax.Array]]:
        """Encode the visible ones of `count` tokens: features of the last layer and of the tapped layers."""
        position = jnp.asarray(tokens.sinusoidal_positions(count, self.config.encoder_dim))
        encoder = Encoder(self.config, self.execution, name=name)
        return encoder(values, position[mask.visible], self.config.skip_layers)

    def _decode(
        self,
        suffix: str,
        fused: jax.Array,
        taps: Sequence[jax.Array],
        mask: TokenMask,
        count: int,
        values: int,
    ) -> jax.Array:
        """Map features to the decoder's width, add positions and mask tokens, and decode one modality."""
        config, dtype = self.config, jnp.dtype(self.execution.dtype)
        width = config.decoder_dim
        position = jnp.asarray(tokens.sinusoidal_positions(count, width)).astype(dtype)
        visible_position = position[mask.visible]
        # The fused features and every skip share one map without a bias.
        to_decoder = dense(
            width,
            self.execution,
            use_bias=False,
            kernel_init=torch_uniform(config.encoder_dim),
            name=f"encoder_to_decoder{suffix}",
        )
        mask_token = self.param(f"mask_token{suffix}", truncated_normal(0.02, 0.02), (1, 1, width))
        by_layer = dict(zip(config.skip_layers, taps, strict=True))
        skips = [to_decoder(by_layer[layer]) + visible_position for layer in config.decoder_skips]
        visible = to_decoder(fused) + visible_position
        masked = mask_token.astype(dtype) + position[mask.masked]
        return Decoder(config, values, self.execution, name=f"decoder{suffix}")(visible, masked, skips)
