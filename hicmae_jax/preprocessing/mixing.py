"""Mixup and cutmix of fine-tuning clips and their labels, in the compiled step (as in the published code).

A clip is mixed with its partner, the clip at the same place of the reversed batch. The kind, the share and
the place of the pasted box are drawn once for all clips of a group. The sound is never mixed.

Across devices, the reversed batch moves each clip once from one device to another.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from data_pipeline.common.setting import check_limits, setting

_BETA_TRIES = 256
"""At α = 2 one try in six is accepted: all 256 fail once in 10^20 draws. Below 2 more are accepted."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixingConfig:
    """Choices of `mix`; the defaults are published. Regression takes no mixing and no smoothing.

    Raises:
        ValueError: a choice outside its limits.
    """

    mixup: float = setting(
        0.8, "parameter α of mixup's share λ ~ Beta(α, α); 0 for no mixup", at_least=0, at_most=2
    )
    cutmix: float = setting(
        1.0, "parameter α of cutmix's share λ ~ Beta(α, α); 0 for no cutmix", at_least=0, at_most=2
    )
    switch: float = setting(0.5, "probability of cutmix where there are both", at_least=0, at_most=1)
    probability: float = setting(1.0, "probability of a group to be mixed at all", at_least=0, at_most=1)
    smoothing: float = setting(0.1, "share of a label that all classes get alike", at_least=0, below=1)
    group: int | None = setting(
        None,
        "clips that share one draw, and partners among themselves; none for the whole batch (the published "
        "code: 14, a process's part of the batch)",
        at_least=1,
    )

    def __post_init__(self) -> None:
        check_limits(self)


class MixDraw(NamedTuple):
    """What is drawn for one group of clips.

    Attributes:
        cutmix: bool, whether a box of the partner is pasted; otherwise whole frames are blended.
        share: float32, λ, the clip's own share as it was drawn; 1 leaves the clips as they are.
        centre: int32[2], (y, x) of the pasted box.
    """

    cutmix: jax.Array
    share: jax.Array
    centre: jax.Array


def mix(
    video: jax.Array, targets: jax.Array, key: jax.Array, config: MixingConfig
) -> tuple[jax.Array, jax.Array]:
    """Mix clips with their partners, and smooth the labels; jit it with `config` static.

    In a group of an odd number, the clip in the middle is its own partner and stays as it is.

    Args:
        video: [B, T, H, W, 3], floats in [0, 1] (float32 or bfloat16), or uint8.
        targets: float32[B, K], one-hot.
        key: a typed PRNG key of the step.
        config: choices of the mixing.

    Returns:
        Video of the same shape and float dtype (float32 for uint8, if there is any mixing), and targets
        float32[B, K], which sum to 1.

    Raises:
        ValueError: the batch does not consist of whole groups.
    """
    targets = smooth(targets, config.smoothing)
    if not config.probability or not (config.mixup or config.cutmix):
        return video, targets
    clips, size = len(video), config.group or len(video)
    if clips % size:
        raise ValueError(f"a batch of {clips} clips is not made of mixing groups of {size}")
    if video.dtype == jnp.uint8:
        video = video.astype(jnp.float32) / 255
    height, width = video.shape[2:4]
    keys = jax.random.split(key, clips // size)
    draws = jax.vmap(lambda key: draw_mix(key, height, width, config))(keys)
    grouped_video = video.reshape(-1, size, *video.shape[1:])
    grouped_targets = targets.reshape(-1, size, targets.shape[-1])
    mixed_video, mixed_targets = jax.vmap(mix_group)(grouped_video, grouped_targets, draws)
    return mixed_video.reshape(video.shape), mixed_targets.reshape(targets.shape)


def smooth(targets: jax.Array, smoothing: float) -> jax.Array:
    """Smooth one-hot labels: smoothing / K for the other classes, 1 - smoothing + smoothing / K for its own.

    Args:
        targets: float32[B, K].
        smoothing: share that all classes get alike.

    Returns:
        float32[B, K].
    """
    return targets * (1 - smoothing) + smoothing / targets.shape[-1]


def draw_mix(key: jax.Array, height: int, width: int, config: MixingConfig) -> MixDraw:
    """Draw the mixing of one group.

    Args:
        key: a typed PRNG key.
        height: of the frames, pixels.
        width: of the frames, pixels.
        config: choices of the mixing; there is mixup or cutmix or both.

    Returns:
        Scalars, and the centre; any pixel is equally likely.
    """
    mixed_key, kind_key, share_key, y_key, x_key = jax.random.split(key, 5)
    switch = (config.switch if config.mixup else 1.0) if config.cutmix else 0.0
    cutmix = jax.random.bernoulli(kind_key, switch)
    alpha = jnp.where(cutmix, config.cutmix, config.mixup)
    share = draw_share(share_key, alpha)
    mixed = jax.random.bernoulli(mixed_key, config.probability)
    centre = [jax.random.randint(y_key, (), 0, height), jax.random.randint(x_key, (), 0, width)]
    return MixDraw(cutmix, jnp.where(mixed, share, 1.0), jnp.stack(centre))


def draw_share(key: jax.Array, alpha: jax.Array | float) -> jax.Array:
    """Draw from Beta(α, α) by Jöhnk's method, with all tries at once.

    The loop of `jax.random.beta` would be spread over the devices with the groups, which would then wait for
    each other in every round.

    Args:
        key: a typed PRNG key.
        alpha: α in (0, 2].

    Returns:
        A float32 scalar in [0, 1].
    """
    # Of uniform u and v with u^(1/α) + v^(1/α) ≤ 1, u^(1/α) / (u^(1/α) + v^(1/α)) is the draw. In logarithms,
    # small powers do not become 0.
    uniform = jax.random.uniform(key, (2, _BETA_TRIES), minval=jnp.finfo(jnp.float32).tiny)
    u, v = jnp.log(uniform) / alpha
    first = jnp.argmax(jnp.logaddexp(u, v) <= 0)
    return jax.nn.sigmoid((u - v)[first])


def mix_group(video: jax.Array, targets: jax.Array, draw: MixDraw) -> tuple[jax.Array, jax.Array]:
    """Mix the clips of one group as drawn; there is no randomness here.

    Args:
        video: float[G, T, H, W, 3].
        targets: float32[G, K], smoothed.
        draw: kind, share and centre.

    Returns:
        Mixed video, in the dtype of `video`, and mixed targets float32[G, K].
    """
    height, width = video.shape[2:4]
    top, bottom, left, right = box = pasted_box(draw.share, draw.centre, height, width)
    row, column = jnp.arange(height)[:, None], jnp.arange(width)[None, :]
    outside = (row < top) | (row >= bottom) | (column < left) | (column >= right)
    own = jnp.where(draw.cutmix, outside, draw.share)[..., None]  # of each pixel, float32[H, W, 1]
    own_label = jnp.where(draw.cutmix, kept_share(box, height, width), draw.share)
    blended = own * video + (1 - own) * video[::-1]
    return blended.astype(video.dtype), own_label * targets + (1 - own_label) * targets[::-1]


def pasted_box(share: jax.Array, centre: jax.Array, height: int, width: int) -> jax.Array:
    """The box that cutmix pastes: ⌊side · √(1 - λ)⌋ long, rounded down to an even number, cut at the borders.

    Args:
        share: λ, float32.
        centre: int32[2], (y, x).
        height: of the frames, pixels.
        width: of the frames, pixels.

    Returns:
        int32[4], (top, bottom, left, right); ends exclusive.
    """
    sides = jnp.array([height, width])
    half = jnp.floor(sides * jnp.sqrt(1 - share)).astype(jnp.int32) // 2
    start, end = jnp.maximum(centre - half, 0), jnp.minimum(centre + half, sides)
    return jnp.stack([start, end], -1).ravel()


def kept_share(box: jax.Array, height: int, width: int) -> jax.Array:
    """Share of the frame outside a box of `pasted_box`: cutmix's λ of the labels."""
    top, bottom, left, right = box
    return 1 - (bottom - top) * (right - left) / (height * width)
