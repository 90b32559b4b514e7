"""Floating-point operations of one clip, counted from the shapes.

This count is the numerator of model-FLOP utilisation, whatever an implementation really executes. It has
2 operations for each multiply-add and matrix products only: patch and encoder → decoder projections,
attention, MLP and heads. Only visible tokens are embedded; the last decoder block works on masked rows.
"""

import dataclasses

from hicmae_jax.model.config import FinetuneConfig, MaskConfig, ModelConfig


def block_products(tokens: int, width: int, rows: int | None = None) -> int:
    """Multiply-adds of a plain block on `tokens` that keeps the last `rows` of them (None: all)."""
    rows = tokens if rows is None else rows
    projections = (rows + 2 * tokens + rows) * width**2  # query, key and value, output
    attention = 2 * rows * tokens * width
    return projections + attention + 8 * rows * width**2


def cross_products(tokens: int, context: int, width: int) -> int:
    """Multiply-adds of the cross-attention of a cross block, which precedes its plain part."""
    return (2 * tokens + 2 * context) * width**2 + 2 * tokens * context * width


def forward_products(model: ModelConfig, masks: MaskConfig) -> dict[str, int]:
    """Multiply-adds of one clip's forward pass, by component."""
    width, decoder_width = model.encoder_dim, model.decoder_dim
    (video_visible, video_masked), (audio_visible, audio_masked) = masks.sizes(model)
    skips = len(model.decoder_skips)

    def decoder(visible: int, masked: int, values: int) -> int:
        total = 0
        for i in range(model.decoder_depth):
            rows = masked if i == model.decoder_depth - 1 else None
            total += block_products(visible + masked, decoder_width, rows)
            if 0 < i <= skips:
                total += cross_products(visible + masked, visible, decoder_width)
        return total + masked * decoder_width * values

    def projection(visible: int) -> int:
        return (1 + skips) * visible * width * decoder_width

    return {
        "video patches": video_visible * model.tubelet_values * width,
        "audio patches": audio_visible * model.audio_patch_values * width,
        "video encoder": model.encoder_depth * block_products(video_visible, width),
        "audio encoder": model.encoder_depth * block_products(audio_visible, width),
        "fusion": _fusion_products(model, video_visible, audio_visible),
        "encoder to decoder": projection(video_visible) + projection(audio_visible),
        "video decoder": decoder(video_visible, video_masked, model.tubelet_values),
        "audio decoder": decoder(audio_visible, audio_masked, model.audio_patch_values),
    }


@dataclasses.dataclass(frozen=True)
class Flops:
    """Floating-point operations of one clip.

    Attributes:
        forward: of the forward pass, by component.
        training: of the forward and backward pass, by component: three times the forward pass, but twice
            for the patch projections, whose inputs need no gradient.
    """

    forward: dict[str, int]
    training: dict[str, int]


def flops(model: ModelConfig, masks: MaskConfig) -> Flops:
    """Count a clip's floating-point operations."""
    forward = {name: 2 * products for name, products in forward_products(model, masks).items()}
    return Flops(forward, _training(forward))


def finetune_flops(model: ModelConfig, finetune: FinetuneConfig) -> Flops:
    """Count a clip's floating-point operations in fine-tuning, where every token is seen (section 3.4)."""
    width = model.encoder_dim
    forward: dict[str, int] = {}
    for name, tokens, values in (
        ("video", model.video_tokens, model.tubelet_values),
        ("audio", model.audio_tokens, model.audio_patch_values),
    ):
        if finetune.modality in ("audio-visual", name):
            forward[f"{name} patches"] = 2 * tokens * values * width
            forward[f"{name} encoder"] = 2 * model.encoder_depth * block_products(tokens, width)
    features = 1
    if finetune.modality == "audio-visual":
        forward["fusion"] = 2 * _fusion_products(model, model.video_tokens, model.audio_tokens)
        features = 4
    forward["head"] = 2 * features * width * finetune.outputs
    return Flops(forward, _training(forward))


def _fusion_products(model: ModelConfig, video_tokens: int, audio_tokens: int) -> int:
    width = model.encoder_dim
    return model.fusion_depth * sum(
        block_products(own, width) + cross_products(own, other, width)
        for own, other in ((video_tokens, audio_tokens), (audio_tokens, video_tokens))
    )


def _training(forward: dict[str, int]) -> dict[str, int]:
    return {name: n * (2 if "patches" in name else 3) for name, n in forward.items()}
