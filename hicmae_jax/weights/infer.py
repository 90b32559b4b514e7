"""The model configuration that a file of published names holds, from the shapes of its tensors."""

import re
from collections.abc import Mapping
from typing import Any

from hicmae_jax.model.config import ModelConfig
from hicmae_jax.model.sizes import SIZES, taps

Shapes = Mapping[str, tuple[int, ...]]


def infer_config(shapes: Shapes, **fields: Any) -> ModelConfig:
    """Infer the configuration of a pre-training model.

    Shapes tell the widths, the depths, the patch and the number of skips. The number of heads comes from the
    size table (`model.sizes`) by width, and the tapped layers from the depth, as in the paper. Other fields,
    such as the size and the length of a clip, have their default values.

    Args:
        shapes: PyTorch name → shape of every tensor.
        **fields: fields of `ModelConfig` that shapes do not tell, or that differ from the default.

    Raises:
        ValueError: the tensors are not those of a pre-training model, or a field must be given.
    """
    decoder_dim, encoder_dim = _shape(shapes, "encoder_to_decoder.weight", 2)
    encoder_depth, decoder_depth = _depth(shapes, "encoder"), _depth(shapes, "decoder")
    skips = sum(f"decoder.blocks.{i}.cross_attn.q.weight" in shapes for i in range(decoder_depth))
    inferred: dict[str, Any] = {
        **_of_encoders(shapes),
        "encoder_dim": encoder_dim,
        "decoder_dim": decoder_dim,
        "decoder_depth": decoder_depth,
        "skip_connections": skips > 0,
    }
    encoder_heads = {width: heads for width, heads, _, _, _ in SIZES.values()}
    decoder_heads = {width: heads for _, _, _, width, heads in SIZES.values()}
    for name, width, heads in (
        ("encoder_heads", encoder_dim, encoder_heads),
        ("decoder_heads", decoder_dim, decoder_heads),
    ):
        if name not in fields:
            if width not in heads:
                raise ValueError(f"no known size has a width of {width}: give {name}")
            inferred[name] = heads[width]
    if "skip_layers" not in fields:
        inferred["skip_layers"] = taps(encoder_depth)
        if skips not in (0, len(inferred["skip_layers"])):
            raise ValueError(f"no tensor tells the layers of the decoder's {skips} skips: give skip_layers")
    return ModelConfig(**(inferred | fields))


def infer_encoder_config(shapes: Shapes) -> ModelConfig:
    """Infer the configuration of a model of which only the encoders matter, as for fine-tuning.

    Args:
        shapes: PyTorch name → shape of every tensor, of a pre-training or a fine-tuning model.

    Returns:
        The configuration; where there are no decoders, theirs is that of the named size with this width.

    Raises:
        ValueError: the tensors are not those of a model of this kind, or of a width that no named size has.
    """
    if "encoder_to_decoder.weight" in shapes:
        return infer_config(shapes)
    audio = "encoder.patch_embed.proj.weight" not in shapes
    width = _shape(shapes, f"encoder{'_audio' * audio}.norm.weight", 1)[0]
    for encoder_dim, encoder_heads, _, decoder_dim, decoder_heads in SIZES.values():
        if encoder_dim == width:
            found = _of_encoders(shapes)
            return ModelConfig(
                encoder_dim=width,
                encoder_heads=encoder_heads,
                decoder_dim=decoder_dim,
                decoder_heads=decoder_heads,
                skip_layers=taps(found["encoder_depth"]),
                **found,
            )
    raise ValueError(f"no known size has a width of {width}: export it from its run, with its configuration")


def _of_encoders(shapes: Shapes) -> dict[str, Any]:
    """What the shapes of encoders and fusion encoder tell; of a model without video, no tubelet."""
    fields: dict[str, Any] = {"fusion_depth": _depth(shapes, "encoder_fusion")}
    if "encoder.patch_embed.proj.weight" not in shapes:
        patch = _shape(shapes, "encoder_audio.patch_embed.proj.weight", 4)[2]
        return fields | {"patch": patch, "encoder_depth": _depth(shapes, "encoder_audio")}
    patches = _shape(shapes, "encoder.patch_embed.proj.weight", 5)
    return fields | {
        "tubelet": patches[2],
        "patch": patches[3],
        "encoder_depth": _depth(shapes, "encoder"),
    }


def _shape(shapes: Shapes, name: str, dimensions: int) -> tuple[int, ...]:
    if len(shapes.get(name, ())) != dimensions:
        raise ValueError(f"not the weights of a HiCMAE model: no {name} of {dimensions} dimensions")
    return shapes[name]


def _depth(shapes: Shapes, stack: str) -> int:
    """Number of blocks of an encoder or a decoder."""
    found = (re.match(rf"{stack}\.blocks\.(\d+)\.", name) for name in shapes)
    return 1 + max((int(match[1]) for match in found if match), default=-1)
