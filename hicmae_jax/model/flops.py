"""What a model costs: parameters, arithmetic and activation memory of one pre-training clip.

Arithmetic is counted from the shapes alone, as the numerator of model-FLOP utilisation whatever an
implementation really executes: 2 floating-point operations a multiply-add, matrix products only (patch
and encoder → decoder projections, attention, MLP, heads), visible-only embedding, the last decoder block
on masked rows.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from hicmae_jax.model.config import FinetuneConfig, LossConfig, MaskConfig, ModelConfig
from hicmae_jax.model.finetune import HiCMAEFinetune
from hicmae_jax.model.hicmae import HiCMAE
from hicmae_jax.model.masking import TokenMask
from hicmae_jax.objective.pretrain import pretrain_loss


def block_products(tokens: int, width: int, rows: int | None = None) -> int:
    """Multiply-adds of a plain block on `tokens`, keeping the last `rows` of them (None: all)."""
    rows = tokens if rows is None else rows
    projections = (rows + 2 * tokens + rows) * width**2  # query, key and value, output
    attention = 2 * rows * tokens * width
    return projections + attention + 8 * rows * width**2


def cross_products(tokens: int, context: int, width: int) -> int:
    """Multiply-adds of the cross-attention that a cross block puts before its plain part."""
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

    fusion = sum(
        block_products(own, width) + cross_products(own, other, width)
        for own, other in ((video_visible, audio_visible), (audio_visible, video_visible))
    )
    return {
        "video patches": video_visible * model.tubelet_values * width,
        "audio patches": audio_visible * model.audio_patch_values * width,
        "video encoder": model.encoder_depth * block_products(video_visible, width),
        "audio encoder": model.encoder_depth * block_products(audio_visible, width),
        "fusion": model.fusion_depth * fusion,
        "encoder to decoder": projection(video_visible) + projection(audio_visible),
        "video decoder": decoder(video_visible, video_masked, model.tubelet_values),
        "audio decoder": decoder(audio_visible, audio_masked, model.audio_patch_values),
    }


@dataclasses.dataclass(frozen=True)
class Flops:
    """Floating-point operations of one clip.

    Attributes:
        forward: of the forward pass, by component.
        training: forward and backward, by component: three times as many, but nothing asks for the
            gradient of the pixels and spectra that enter the patch projections.
    """

    forward: dict[str, int]
    training: dict[str, int]


def flops(model: ModelConfig, masks: MaskConfig) -> Flops:
    """Count a clip's floating-point operations."""
    forward = {name: 2 * products for name, products in forward_products(model, masks).items()}
    training = {name: n * (2 if "patches" in name else 3) for name, n in forward.items()}
    return Flops(forward, training)


def _elements(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def abstract_clips(model: ModelConfig, batch: int) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    """Shapes of a batch's video and log-mel."""
    side = model.image_size
    return (
        jax.ShapeDtypeStruct((batch, model.frames, side, side, 3), jnp.float32),
        jax.ShapeDtypeStruct((batch, model.audio_frames, model.audio_bins), jnp.float32),
    )


def abstract_batch(model: ModelConfig, masks: MaskConfig, batch: int) -> tuple[Any, ...]:
    """Shapes of a batch's pre-training inputs: video, log-mel, video mask, audio mask."""

    def indices(visible: int, masked: int) -> TokenMask:
        return TokenMask(
            jax.ShapeDtypeStruct((batch, visible), jnp.int32),
            jax.ShapeDtypeStruct((batch, masked), jnp.int32),
        )

    video_sizes, audio_sizes = masks.sizes(model)
    return *abstract_clips(model, batch), indices(*video_sizes), indices(*audio_sizes)


def abstract_parameters(model: ModelConfig, masks: MaskConfig) -> Mapping[str, Any]:
    """Shapes of the pre-training model's parameters, without making them."""
    inputs = abstract_batch(model, masks, 1)
    return jax.eval_shape(HiCMAE(model).init, jax.random.key(0), *inputs)["params"]


def pretrain_parameters(model: ModelConfig, masks: MaskConfig) -> int:
    """Parameters of the pre-training model."""
    return _elements(abstract_parameters(model, masks))


def finetune_parameters(model: ModelConfig, finetune: FinetuneConfig) -> int:
    """Parameters of the fine-tuning model, the head included."""
    clips = abstract_clips(model, 1)
    shapes = jax.eval_shape(HiCMAEFinetune(model, finetune).init, jax.random.key(0), *clips)
    return _elements(shapes["params"])


def activation_bytes(model: ModelConfig, masks: MaskConfig) -> int:
    """Bytes a clip that the forward pass keeps for the backward pass.

    Traced, not counted by hand: what `jax.vjp` of the whole objective holds on to, the difference between
    two clips and one so that parameters drop out. Follows the config's dtype, scan and remat choices. A
    compiler may fuse some of it away or need more for a moment.
    """
    parameters = abstract_parameters(model, masks)

    def kept(batch: int) -> int:
        def forward(params: Any, *inputs: Any) -> Any:
            def loss(params: Any) -> jax.Array:
                return pretrain_loss(HiCMAE(model), params, *inputs, LossConfig())[0]

            return jax.vjp(loss, params)[1]

        return _bytes(jax.eval_shape(forward, parameters, *abstract_batch(model, masks, batch)))

    return kept(2) - kept(1)
