"""HiCMAE for fine-tuning: encoders of all tokens, feature fusion and a linear head (paper section 3.4)."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from hicmae_jax.model import tokens
from hicmae_jax.model.config import ExecutionConfig, FinetuneConfig, ModelConfig
from hicmae_jax.model.hicmae import Encoder, FusionEncoder
from hicmae_jax.model.layers import Initializer, layer_norm, torch_uniform, truncated_normal, xavier_uniform


class FinetuneOutput(NamedTuple):
    """Output of the fine-tuning model.

    Attributes:
        logits: float32[B, outputs], class logits or regressed dimensions.
        feature: float32[B, 4C], input of the head after LayerNorm, in the order video, audio, fused video,
            fused audio; [B, C] for a single modality.
    """

    logits: jax.Array
    feature: jax.Array


class HiCMAEFinetune(nn.Module):
    """The fine-tuning model of both modalities or of one.

    Attributes:
        config: geometry, widths and wiring; its decoder choices have no effect here.
        finetune: outputs, modality, feature fusion and stochastic depth.
        execution: how it is computed.
        from_scratch: initialise the encoders' matrices for training without pre-trained weights.
    """

    config: ModelConfig
    finetune: FinetuneConfig
    execution: ExecutionConfig = ExecutionConfig()
    from_scratch: bool = False

    @nn.compact
    def __call__(
        self, video: jax.Array | None, log_mel: jax.Array | None, deterministic: bool = True
    ) -> FinetuneOutput:
        """Score clips.

        Args:
            video: [B, T, H, W, 3], uint8 or floats in [0, 1]; not needed if the modality is audio.
            log_mel: float[B, time, bins], normalised; not needed if the modality is video.
            deterministic: True turns stochastic depth off; False needs the `drop_path` stream.

        Raises:
            ValueError: an input that the modality needs is missing, or has another geometry.
            TypeError: a video of integers other than uint8.
        """
        config, finetune = self.config, self.finetune
        wants_video, wants_audio = finetune.modality != "audio", finetune.modality != "video"
        for name, wanted, value in (("video", wants_video, video), ("audio", wants_audio, log_mel)):
            if wanted and value is None:
                raise ValueError(f"modality {finetune.modality} needs {name}, which was not given")
        video, log_mel = video if wants_video else None, log_mel if wants_audio else None
        config.check_clips(None if video is None else video.shape, None if log_mel is None else log_mel.shape)

        features, lasts = [], []
        if video is not None:
            values = tokens.normalise(tokens.pixels(tokens.tubelets(video, config.tubelet, config.patch)))
            feature, last = self._encode("encoder", "video_layer_weights", values, deterministic)
            features.append(feature)
            lasts.append(last)
        if log_mel is not None:
            values = tokens.audio_patches(log_mel, config.patch)
            feature, last = self._encode("encoder_audio", "audio_layer_weights", values, deterministic)
            features.append(feature)
            lasts.append(last)
        if len(lasts) == 2:
            rates = None if deterministic else self._drop_rates(config.fusion_depth)
            fused = FusionEncoder(config, self.execution, name="encoder_fusion")(lasts[0], lasts[1], rates)
            features += [stream.mean(axis=1, dtype=jnp.float32) for stream in fused]

        # The head is float32 in every precision, because it costs little.
        feature = layer_norm(ExecutionConfig(), name="fc_norm")(jnp.concatenate(features, axis=-1))
        init = torch_uniform(feature.shape[-1])
        head = nn.Dense(finetune.outputs, kernel_init=init, bias_init=init, name="head")
        return FinetuneOutput(head(feature), feature)

    def _drop_rates(self, depth: int) -> jax.Array:
        """Stochastic-depth rates of one stack: they rise linearly from 0 at its first layer."""
        return jnp.asarray(np.linspace(0.0, self.finetune.drop_path, depth), jnp.float32)

    def _encode(
        self, name: str, weights_name: str, values: jax.Array, deterministic: bool
    ) -> tuple[jax.Array, jax.Array]:
        """Encode one modality: its weighted feature float32[B, C], and the tokens of its last layer."""
        config = self.config
        depth = config.encoder_depth
        init: Initializer = truncated_normal(0.02, 2.0) if self.from_scratch else xavier_uniform
        positions = tokens.sinusoidal_positions(values.shape[1], config.encoder_dim)[None]
        last, levels = Encoder(config, self.execution, init, name=name)(
            values,
            jnp.asarray(positions),
            range(1, depth + 1) if self.finetune.feature_fusion else [depth],
            None if deterministic else self._drop_rates(depth),
        )
        pooled = jnp.stack([level.mean(axis=1, dtype=jnp.float32) for level in levels])
        if not self.finetune.feature_fusion:
            return pooled[0], last
        weights = self.param(weights_name, nn.initializers.constant(1 / depth), (depth,))
        return jnp.einsum("l,lbc->bc", jax.nn.softmax(weights), pooled, precision="highest"), last
