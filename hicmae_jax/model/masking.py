"""Masks: which tokens the encoder sees, and which ones the decoder reconstructs (paper section 3.1.1).

A mask is two arrays of *indices* with static shapes, never booleans, so that selecting tokens is a gather.
`draw_mask` draws the mask of one clip from one key; `jax.vmap` over keys makes a batch. So the mask of a clip
depends neither on the other clips nor on how the batch is sharded.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

KINDS = ("tube", "random", "time", "frequency")


class TokenMask(NamedTuple):
    """Indices into the flat token order, ascending within a clip.

    Attributes:
        visible: int32[..., N_visible], tokens that the encoder sees.
        masked: int32[..., N_target], tokens that the decoder reconstructs: every masked token, or a random
            subset of them (dual masking).
    """

    visible: jax.Array
    masked: jax.Array


def masked_count(units: int, ratio: float) -> int:
    """Number of masked units, ⌊ratio · units⌋ in binary floating point, as the published code rounds.

    Args:
        units: number of units, each of which is masked as a whole: places (tube), tokens (random), time steps
            or bands.
        ratio: share to mask.

    Raises:
        ValueError: nothing would be masked, or nothing would stay visible.
    """
    count = int(ratio * units)
    if not 0 < count < units:
        what = "masked" if count <= 0 else "visible"
        raise ValueError(
            f"mask ratio {ratio} of {units} units leaves no {what} token; choose a ratio that masks 1 to "
            f"{units - 1} of them"
        )
    return count


def mask_sizes(
    kind: str, grid: tuple[int, int], ratio: float, decode_fraction: float = 1.0
) -> tuple[int, int]:
    """Static sizes (N_visible, N_target) of the masks that `draw_mask` gives for the same arguments.

    Raises:
        ValueError: unknown kind, or a ratio that leaves no visible or no target token.
    """
    rows, columns = grid
    units = {"tube": columns, "random": rows * columns, "time": rows, "frequency": columns}
    if kind not in units:
        raise ValueError(f"unknown mask kind {kind!r}; choose from {', '.join(KINDS)}")
    tokens_a_unit = {"tube": rows, "random": 1, "time": columns, "frequency": rows}[kind]
    masked = masked_count(units[kind], ratio) * tokens_a_unit
    if not 0 < decode_fraction <= 1:
        raise ValueError(f"decode fraction {decode_fraction} is not in (0, 1]")
    target = int(decode_fraction * masked)
    if target < 1:
        raise ValueError(f"decode fraction {decode_fraction} of {masked} masked tokens leaves none to decode")
    return rows * columns - masked, target


def draw_mask(
    kind: str, key: jax.Array, grid: tuple[int, int], ratio: float, decode_fraction: float = 1.0
) -> TokenMask:
    """Draw the mask of one clip.

    Args:
        kind: `tube` masks the same places in every row of the grid (video), `random` any
            tokens, `time` whole rows and `frequency` whole columns (spectrogram).
        key: a typed PRNG key.
        grid: (rows, columns) of the flat token order: (slices, places in a slice) for video, (time,
            frequency) for audio.
        ratio: share of units to mask.
        decode_fraction: share of the masked tokens to reconstruct (dual masking); 1 keeps all.

    Returns:
        The clip's `TokenMask`, without a batch dimension.

    Raises:
        ValueError: see `mask_sizes`.
    """
    visible_count, target_count = mask_sizes(kind, grid, ratio, decode_fraction)
    rows, columns = grid
    unit_key, subset_key = jax.random.split(key)
    tokens = jnp.arange(rows * columns).reshape(rows, columns)
    # Each unit gets a random rank, which all of its tokens share; the units of the lowest ranks stay visible.
    shape = (1 if kind in ("tube", "frequency") else rows, 1 if kind == "time" else columns)
    rank = jnp.argsort(jnp.argsort(jax.random.uniform(unit_key, shape).ravel())).reshape(shape)
    rank = jnp.broadcast_to(rank, (rows, columns)).ravel()
    # A stable sort keeps flat order within one rank only, so both sides are sorted again.
    order = jnp.argsort(rank, stable=True)
    visible = jnp.sort(tokens.ravel()[order[:visible_count]])
    masked = tokens.ravel()[order[visible_count:]]
    if target_count < masked.size:
        masked = jax.random.permutation(subset_key, masked)[:target_count]
    return TokenMask(visible.astype(jnp.int32), jnp.sort(masked).astype(jnp.int32))


def from_boolean(mask: np.ndarray) -> TokenMask:
    """Convert boolean masks that mask the same number of tokens in every clip.

    Args:
        mask: bool[B, N], True = masked (host array).

    Returns:
        TokenMask of int32[B, N_visible] and int32[B, N_masked].

    Raises:
        ValueError: clips have different numbers of masked tokens.
    """
    mask = np.asarray(mask, bool)
    counts = np.unique(mask.sum(-1))
    if len(counts) != 1:
        raise ValueError(f"clips mask different numbers of tokens: {counts.tolist()}")
    order = np.argsort(mask, axis=-1, kind="stable").astype(np.int32)
    cut = mask.shape[-1] - int(counts[0])
    return TokenMask(jnp.asarray(order[:, :cut]), jnp.asarray(order[:, cut:]))
