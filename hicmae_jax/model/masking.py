"""Masks: which tokens the encoder sees, and which ones the decoder reconstructs (paper section 3.1.1).

A mask is two arrays of *indices* with static shapes, never booleans, so that selecting tokens is a gather.
`draw_mask` draws the mask of one clip from one key; `jax.vmap` over keys makes a batch. So the mask of a clip
depends neither on the other clips nor on how the batch is sharded.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

KINDS = ("tube", "random", "time", "frequency")
DECODE_KINDS = ("random", "running_cell")


class TokenMask(NamedTuple):
    """Indices into the flat token order, ascending within a clip.

    Attributes:
        visible: int32[..., N_visible], tokens that the encoder sees.
        masked: int32[..., N_target], tokens that the decoder reconstructs: every masked token, or a part of
            them (dual masking).
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
    kind: str,
    key: jax.Array,
    grid: tuple[int, int],
    ratio: float,
    decode_fraction: float = 1.0,
    decode_kind: str = "random",
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
        decode_kind: which of them, if not all: `random` ones, or those of `running_cell_order`, which cover
            places and time evenly (video only).

    Returns:
        The clip's `TokenMask`, without a batch dimension.

    Raises:
        ValueError: see `mask_sizes` and `running_cell_order`; or an unknown `decode_kind`.
    """
    if decode_kind not in DECODE_KINDS:
        raise ValueError(f"unknown decode kind {decode_kind!r}; choose from {', '.join(DECODE_KINDS)}")
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
        if decode_kind == "running_cell":
            masked = masked[jnp.argsort(running_cell_order(subset_key, grid)[masked])]
        else:
            masked = jax.random.permutation(subset_key, masked)
        masked = masked[:target_count]
    return TokenMask(visible.astype(jnp.int32), jnp.sort(masked).astype(jnp.int32))


def running_cell_order(key: jax.Array, grid: tuple[int, int]) -> jax.Array:
    """Rank video tokens so that the first ones cover places and time evenly (dual masking).

    Each frame is cut into cells of 2 × 2 places. In every slice of time, the four places of a cell have turns
    0 to 3, clockwise. In the next slice, every turn is one place further. So the first half of the tokens has
    two places of each cell in each slice, and each place in two of four slices. Tokens of a lower turn come
    first, in random order among themselves. So any number of tokens can be taken, also if only some tokens
    are masked. The place that begins is random in each clip.

    The design follows the text of VideoMAE V2 (arXiv 2303.16727, section 3.2: running cell masking of the
    decoder); size, direction and beginning of the cells are choices of this project.

    Args:
        key: a typed PRNG key.
        grid: (slices, places in a slice); the places are those of a square frame, row by row.

    Returns:
        float32[slices · places]: rank of each token in the flat order, lower first.

    Raises:
        ValueError: the places of a slice are not those of a square frame.
    """
    slices, places = grid
    side = math.isqrt(places)
    if side * side != places:
        raise ValueError(f"running cells need square frames, and a slice of {places} tokens is not square")
    start_key, order_key = jax.random.split(key)
    row, column = jnp.divmod(jnp.arange(places), side)
    clockwise = jnp.array([[0, 1], [3, 2]])[row % 2, column % 2]
    start = jax.random.randint(start_key, (), 0, 4)
    turn = (clockwise + jnp.arange(slices)[:, None] + start) % 4
    return (turn + jax.random.uniform(order_key, turn.shape)).ravel()


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
