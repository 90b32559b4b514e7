"""The table of model sizes, smallest first.

T, S and B are the paper's (section 4.1). The decoder of T was never published; here it has half the encoder's
width, as in S. L, H and g are added for scaling studies: their widths are multiples of 128, the side of a
TPU's matrix unit, and their heads have 64 channels like those of the paper.

avf-L and avf-H have the widths, heads and depths of the large and the huge model of AVF-MAE++, the successor
of HiCMAE (Wu et al., CVPR 2025; arXiv 2509.24214, and its published configurations). What else that work
changes is not here: its encoders attend within regions, and its fusion is another one.

The fusion encoder has 2 layers and the decoders have 4 in all sizes, also in those of AVF-MAE++.

The tapped layers are at 40 %, 70 % and 100 % of the encoder's depth, rounded: layers 4, 7 and 10 of ten. So
they are in avf-L and avf-H, too; the published ones are at thirds (4, 8, 12 and 5, 10, 15), which
`skip_layers` can say.
"""

from typing import Any

from hicmae_jax.model.config import ModelConfig

# name: (encoder width, encoder heads, encoder depth, decoder width, decoder heads)
SIZES: dict[str, tuple[int, int, int, int, int]] = {
    "mu": (64, 4, 4, 48, 3),  # for tests
    "T": (256, 4, 10, 128, 2),
    "S": (384, 6, 10, 192, 3),
    "B": (512, 8, 10, 384, 6),
    "avf-L": (640, 10, 12, 512, 8),
    "L": (768, 12, 12, 384, 6),
    "avf-H": (768, 12, 15, 640, 8),
    "H": (1024, 16, 16, 512, 8),
    "g": (1280, 20, 32, 512, 8),
}


def taps(depth: int) -> tuple[int, int, int]:
    """Tapped layers of an encoder, 1-based: 40 %, 70 % and 100 % of its depth, rounded half up."""
    return (4 * depth + 5) // 10, (7 * depth + 5) // 10, depth


def model_config(size: str, **overrides: Any) -> ModelConfig:
    """Configuration of a named size.

    Args:
        size: a name of `SIZES`.
        **overrides: fields of `ModelConfig` with other values. Another `encoder_depth` also changes the
            tapped layers, unless `skip_layers` is given.

    Raises:
        ValueError: unknown size, or an impossible combination.
        TypeError: an override that is no field of `ModelConfig`.
    """
    if size not in SIZES:
        raise ValueError(f"unknown model size {size!r}: choose one of {', '.join(SIZES)}")
    encoder_dim, encoder_heads, depth, decoder_dim, decoder_heads = SIZES[size]
    depth = overrides.get("encoder_depth", depth)
    fields: dict[str, Any] = {
        "encoder_dim": encoder_dim,
        "encoder_heads": encoder_heads,
        "encoder_depth": depth,
        "decoder_dim": decoder_dim,
        "decoder_heads": decoder_heads,
        "skip_layers": taps(depth),
    }
    return ModelConfig(**(fields | overrides))
