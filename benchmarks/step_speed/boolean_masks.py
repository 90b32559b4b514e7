"""The pre-training model with boolean masks, without this project's savings."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hicmae_jax.weights.torch_model import (
    Decoder,
    Encoder,
    Output,
    PretrainModel,
    audio_patches,
    pixels,
    targets,
    tubelets,
)


class BooleanMaskModel(PretrainModel):
    """The same function of clips and weights as `PretrainModel`, in the order of common PyTorch code.

    Every token is embedded, gets its position and its target, and only then the masks select. Every block of
    the decoders computes every token. The masks mask the same number of tokens in each clip.
    """

    def forward(  # type: ignore[override]  # masks of another kind
        self, video: Tensor, log_mel: Tensor, video_mask: Tensor, audio_mask: Tensor
    ) -> Output:
        """Encode visible tokens and predict masked ones; masks are bool [B, tokens], true where masked."""
        config, depth = self.config, self.config.encoder_depth
        cubes, patches = pixels(tubelets(video, config)), audio_patches(log_mel, config)
        layers = {*config.skip_layers, depth}
        seen = encode(self.encoder, cubes, video_mask, layers)
        heard = encode(self.encoder_audio, patches, audio_mask, layers)
        video_stream, audio_stream = self.encoder_fusion(seen[depth], heard[depth])
        return Output(
            self.decode_all("", video_stream, seen, video_mask),
            self.decode_all("_audio", audio_stream, heard, audio_mask),
            select(targets(cubes, self.frame_difference), video_mask),
            select(targets(patches), audio_mask),
            tuple(seen[layer].mean(1) for layer in config.skip_layers),
            tuple(heard[layer].mean(1) for layer in config.skip_layers),
        )

    def decode_all(self, suffix: str, stream: Tensor, features: dict[int, Tensor], mask: Tensor) -> Tensor:
        """Predict the masked tokens of one modality, whose parameters end in `suffix`."""
        project, token = getattr(self, f"encoder_to_decoder{suffix}"), getattr(self, f"mask_token{suffix}")
        decoder: Decoder = getattr(self, f"decoder{suffix}")
        positions = decoder.positions.expand(len(mask), -1, -1)
        visible, masked = select(positions, ~mask), select(positions, mask)
        skips = [project(features[layer]) + visible for layer in self.config.decoder_skips]
        x = torch.cat([project(stream) + visible, token + masked], 1)
        for k, block in enumerate(decoder.blocks):
            x = block(x, skips[k - 1] if block.cross else None)
        return decoder.head(decoder.norm(x[:, -masked.shape[1] :]))


def select(tokens: Tensor, mask: Tensor) -> Tensor:
    """Tokens [B, N, values] at which a mask bool [B, N] is true → [B, selected, values]."""
    return tokens[mask].reshape(len(tokens), -1, tokens.shape[-1])


def encode(encoder: Encoder, patches: Tensor, mask: Tensor, layers: set[int]) -> dict[int, Tensor]:
    """Embed all patches [B, N, *patch, channels], encode the visible ones → features of `layers`."""
    proj: Any = encoder.patch_embed["proj"]
    if isinstance(proj, nn.Conv3d):
        patches = (patches - encoder.pixel_mean) / encoder.pixel_std
    embedded = F.linear(patches.flatten(2), proj.weight.movedim(1, -1).flatten(1), proj.bias)
    x = select(embedded + encoder.positions, ~mask)
    features: dict[int, Tensor] = {}
    for layer, block in enumerate(encoder.blocks, 1):
        x = block(x)
        if layer in layers:
            features[layer] = encoder.norm(x)
    return features
