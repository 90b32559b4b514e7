"""Multi-head attention as a TPU kernel that keeps its scores on the chip.

One program of the kernel works on a few clips and one group of heads. The whole score matrix of a head lies
in on-chip memory: 800 × 800 float32 numbers are 2.6 MB. So keys are not split into blocks, and a program has
the maximum and the sum of every row. The backward kernel computes the scores again; only queries, keys and
values are kept for it.

Heads are contiguous channels. A kernel reads as many heads as fill the 128 lanes of a register, and selects
one head by setting the other channels to zero. A product over 128 channels takes the matrix unit as long as
one over 64, while cutting channels out would shift data along the lanes.

XLA does not fuse the surrounding operations into a kernel, so each split, sum or transposition outside would
read and write main memory. Therefore the kernel reads the projections side by side, as one matrix product
makes them, writes their gradients in the same layout, and adds the biases itself.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

LANES = 128  # of a vector register: blocks of channels are multiples of it, or all channels there are

ROWS = 800
"""Programs work on several clips of short sequences, up to this many tokens, to share their fixed cost."""

MEMORY = 48 * 2**20
"""On-chip memory that a kernel may use, bytes; v5e, v5p and v6e have at least 64 MiB."""

Arrays = tuple[jax.Array, ...]


def attention(
    projections: Sequence[jax.Array], q_bias: jax.Array, v_bias: jax.Array, heads: int
) -> jax.Array:
    """softmax((q + q_bias) kᵀ / √d) (v + v_bias) of every head, softmax in float32.

    Products take the inputs in their own dtype and sum in float32. On platforms other than TPU the kernel is
    interpreted, which is slow and serves tests. With a mesh in context, the clips are sharded over all of its
    axes; then the number of clips must be a multiple of the number of devices.

    Args:
        projections: queries, keys and values side by side, [B, N, 3C]; or queries [B, N, C], and keys and
            values side by side, [B, M, 2C]; or all three separate. All of one dtype.
        q_bias: [C] of the same dtype.
        v_bias: likewise.
        heads: of contiguous channels; they divide C.

    Returns:
        [B, N, C] of that dtype.

    Raises:
        ValueError: the projections have other widths.
    """
    width = q_bias.shape[0]
    parts = [x.shape[-1] // width for x in projections]
    if [n * width for n in parts] != [x.shape[-1] for x in projections] or parts not in (
        [3],
        [1, 2],
        [1, 1, 1],
    ):
        widths = [x.shape[-1] for x in projections]
        raise ValueError(
            f"projections of widths {widths} are no queries, keys and values of {width} channels"
        )
    if width % LANES:
        # A block can begin only at a multiple of 128 channels, so split the projections here.
        projections = [part for x, n in zip(projections, parts) for part in jnp.split(x, n, axis=-1)]
    return _attention(tuple(projections), q_bias, v_bias, heads)


def fits(projections: Sequence[jax.Array], width: int, heads: int) -> bool:
    """Whether on-chip memory suffices for sequences of this length; arguments as for `attention`."""
    return _Layout(projections, width, heads).memory() <= MEMORY


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _attention(projections: Arrays, q_bias: jax.Array, v_bias: jax.Array, heads: int) -> jax.Array:
    out: jax.Array = _run(_forward_call, heads, (*projections, q_bias, v_bias), biases=2)
    return out


def _keep(projections: Arrays, q_bias: jax.Array, v_bias: jax.Array, heads: int) -> tuple[jax.Array, tuple]:
    return _attention(projections, q_bias, v_bias, heads), (projections, q_bias, v_bias)


def _backward(heads: int, kept: tuple, cotangent: jax.Array) -> tuple[Arrays, jax.Array, jax.Array]:
    projections, q_bias, v_bias = kept
    *of_projections, of_q_bias, of_v_bias = _run(
        _backward_call, heads, (cotangent, *projections, q_bias, v_bias), biases=2
    )
    # The kernel gives bias gradients for each clip; the sum may run over several devices.
    of_q_bias, of_v_bias = (x.sum(axis=(0, 1)).astype(q_bias.dtype) for x in (of_q_bias, of_v_bias))
    return tuple(of_projections), of_q_bias, of_v_bias


_attention.defvjp(_keep, _backward)


def _run(call: Callable[..., Any], heads: int, arrays: Arrays, biases: int) -> Any:
    """Call a kernel, compiled or interpreted, on each device's own clips.

    Args:
        call: (*arrays, heads, interpret) → one array or several, each with B clips.
        heads: number of heads.
        arrays: the first ones have B clips each; the last `biases` ones are the same for all clips.
        biases: number of the latter.

    Returns:
        What `call` returns.
    """

    def on_device(*arrays: jax.Array) -> Any:
        # The choice depends on the platform compiled for, which may differ from the one that compiles.
        return jax.lax.platform_dependent(
            *arrays,
            tpu=functools.partial(call, heads=heads, interpret=False),
            default=functools.partial(call, heads=heads, interpret=True),
        )

    mesh = jax.sharding.get_abstract_mesh()
    # Inside shard_map, clips are already split over the manual axes.
    axes = tuple(
        name for name, kind in zip(mesh.axis_names, mesh.axis_types) if kind != jax.sharding.AxisType.Manual
    )
    if not axes:
        return on_device(*arrays)
    # XLA cannot partition a kernel.
    clips = jax.P(axes)
    specs = (clips,) * (len(arrays) - biases) + (jax.P(),) * biases
    return jax.shard_map(on_device, in_specs=specs, out_specs=clips, check_vma=False)(*arrays)


class _Layout:
    """Positions of queries, keys and values in the arrays, and the blocks of them that a program gets.

    The grid is (batch / clips of a program, groups of heads).

    Attributes:
        batch: number of clips.
        clips: number of clips of one program.
        rows: number of queries.
        keys: number of keys and values.
        itemsize: bytes of a number.
        width: channels.
        lanes: channels of a group of heads.
        groups: number of these groups.
        parts: for each of queries, keys and values, the index of the array and the index of the part in it.
    """

    def __init__(self, projections: Sequence[jax.Array], width: int, heads: int) -> None:
        self.batch, self.rows, _ = projections[0].shape
        self.keys = projections[-1].shape[1]
        self.itemsize = projections[0].dtype.itemsize
        longest = max(self.rows, self.keys)
        self.clips = max(
            n for n in range(1, self.batch + 1) if self.batch % n == 0 and n * longest <= max(ROWS, longest)
        )
        self.width = width
        head = width // heads
        self.lanes = width if width % LANES else math.lcm(head, LANES)
        self.groups = width // self.lanes
        self.parts = [(i, part) for i, x in enumerate(projections) for part in range(x.shape[-1] // width)]

    def group(self, rows: int, part: int = 0) -> pl.BlockSpec:
        """Block of one group's channels and one program's clips, in the given part of an array."""
        first = part * self.groups
        return pl.BlockSpec((self.clips, rows, self.lanes), lambda clips, group: (clips, 0, first + group))

    def inputs(self) -> list[pl.BlockSpec]:
        """Blocks of queries, keys, values and the two biases [1, C]."""
        rows = (self.rows, self.keys, self.keys)
        bias = pl.BlockSpec((1, self.lanes), lambda clips, group: (0, group))
        return [*(self.group(n, part) for n, (_, part) in zip(rows, self.parts)), bias, bias]

    def operands(self, projections: Sequence[jax.Array]) -> list[jax.Array]:
        """The arrays that hold queries, keys and values; all three may be the same array."""
        return [projections[i] for i, _ in self.parts]

    def memory(self) -> int:
        """Approximate on-chip memory of the backward kernel, which needs more than the forward one, bytes."""
        # It reads queries, the output's gradient, keys and values; it writes the gradients of all groups.
        channels = (2 * self.rows + 2 * self.keys) * self.lanes + (self.rows + 2 * self.keys) * self.width
        blocks = self.clips * channels * self.itemsize
        scores = 4 * self.rows * -(-self.keys // LANES) * LANES
        # Blocks are double-buffered: while one program runs, the next one's blocks are read and the last
        # one's are written. The compiler also allocates 3.0 to 3.4 score matrices, as its messages say when
        # MEMORY is too small.
        return 2 * blocks + scores * 7 // 2

    def cost(self, products: int, arrays: Sequence[jax.Array | jax.ShapeDtypeStruct]) -> pl.CostEstimate:
        """Cost of `products` products over all queries, keys and channels, and of reading each array once."""
        pairs = self.batch * self.rows * self.keys
        return pl.CostEstimate(
            flops=2 * products * pairs * self.width,
            transcendentals=pairs * self.groups * self.lanes,
            bytes_accessed=sum(x.size * x.dtype.itemsize for x in arrays),
        )


def _forward_call(*arrays: jax.Array, heads: int, interpret: bool) -> jax.Array:
    *projections, q_bias, v_bias = arrays
    width = q_bias.shape[0]
    layout = _Layout(projections, width, heads)
    out = jax.ShapeDtypeStruct((layout.batch, layout.rows, width), q_bias.dtype)
    return pl.pallas_call(
        functools.partial(_forward_kernel, head=width // heads),
        grid=(layout.batch // layout.clips, layout.groups),
        in_specs=layout.inputs(),
        out_specs=layout.group(layout.rows),
        out_shape=out,
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel"), vmem_limit_bytes=MEMORY
        ),
        cost_estimate=layout.cost(2, [*arrays, out]),
        interpret=interpret,
        name="attention",
    )(*layout.operands(projections), q_bias[None], v_bias[None])


def _backward_call(*arrays: jax.Array, heads: int, interpret: bool) -> Arrays:
    """Gradients of the projections, and of each bias for each clip, float32[B, 1, C]."""
    cotangent, *projections, q_bias, v_bias = arrays
    width = q_bias.shape[0]
    layout = _Layout(projections, width, heads)
    per_clip = jax.ShapeDtypeStruct((layout.batch, 1, width), jnp.float32)
    outs = [*(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in projections), per_clip, per_clip]
    # A block holds all channels: the groups write to different parts of it, and it stays on the chip until
    # the last group is done.
    whole = [
        pl.BlockSpec((layout.clips, *x.shape[1:]), lambda clips, group: (clips, 0, 0)) for x in projections
    ]
    return tuple(
        pl.pallas_call(
            functools.partial(_backward_kernel, head=width // heads, parts=layout.parts, width=width),
            grid=(layout.batch // layout.clips, layout.groups),
            in_specs=[*layout.inputs(), layout.group(layout.rows)],
            out_specs=[*whole, layout.group(1), layout.group(1)],
            out_shape=outs,
            compiler_params=pltpu.CompilerParams(
                dimension_semantics=("parallel", "arbitrary"), vmem_limit_bytes=MEMORY
            ),
            cost_estimate=layout.cost(5, [*arrays, *outs]),
            interpret=interpret,
            name="attention_backward",
        )(*layout.operands(projections), q_bias[None], v_bias[None], cotangent)
    )


def _dot(x: jax.Array, y: jax.Array, over: tuple[int, int]) -> jax.Array:
    """Product of two matrices over one dimension of each, summed in float32."""
    return jax.lax.dot_general(x, y, (((over[0],), (over[1],)), ((), ())), preferred_element_type=jnp.float32)


def _biased(x: jax.Array, bias: jax.Array) -> jax.Array:
    # Not all chips can add in bfloat16.
    return (x.astype(jnp.float32) + bias.astype(jnp.float32)).astype(x.dtype)


def _only(mine: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.where(mine, x, jnp.zeros_like(x))


def _heads(lanes: int, head: int) -> list[jax.Array]:
    """For each head of a group, bool[1, lanes]: True at the channels of this head."""
    owner = jax.lax.broadcasted_iota(jnp.int32, (1, lanes), 1) // head
    return [owner == i for i in range(lanes // head)]


def _exponentials(query: jax.Array, key: jax.Array, head: int) -> tuple[jax.Array, jax.Array]:
    """Softmax in two parts: exponentials float32[N, M], and the factor of each row, float32[N, 1]."""
    scores = _dot(query, key, (1, 1))
    # The scale is positive, so it does not move the maximum and can be applied after the subtraction.
    powers = jnp.exp((scores - scores.max(axis=1, keepdims=True)) * head**-0.5)
    return powers, 1 / powers.sum(axis=1, keepdims=True)


def _forward_kernel(
    q_ref: Any, k_ref: Any, v_ref: Any, q_bias_ref: Any, v_bias_ref: Any, out_ref: Any, *, head: int
) -> None:
    @pl.loop(0, q_ref.shape[0])
    def _(clip: jax.Array) -> None:
        query, key = _biased(q_ref[clip], q_bias_ref[...]), k_ref[clip]
        value = _biased(v_ref[clip], v_bias_ref[...])
        out = jnp.zeros(query.shape, jnp.float32)
        for mine in _heads(query.shape[1], head):
            powers, scale = _exponentials(_only(mine, query), key, head)
            out = jnp.where(mine, _dot(powers.astype(value.dtype), value, (1, 0)) * scale, out)
        out_ref[clip] = out.astype(out_ref.dtype)


def _backward_kernel(*refs: Any, head: int, parts: Sequence[tuple[int, int]], width: int) -> None:
    q_ref, k_ref, v_ref, q_bias_ref, v_bias_ref, cotangent_ref, *out_refs, d_q_bias_ref, d_v_bias_ref = refs
    clips, lanes = q_ref.shape[0], q_ref.shape[2]
    group = pl.program_id(1)

    @pl.loop(0, clips)
    def _(clip: jax.Array) -> None:
        query, key = _biased(q_ref[clip], q_bias_ref[...]), k_ref[clip]
        value, cotangent = _biased(v_ref[clip], v_bias_ref[...]), cotangent_ref[clip]
        d_query = jnp.zeros(query.shape, jnp.float32)
        d_key = jnp.zeros(key.shape, jnp.float32)
        d_value = jnp.zeros(key.shape, jnp.float32)
        for mine in _heads(lanes, head):
            q, d_out = _only(mine, query), _only(mine, cotangent)
            powers, scale = _exponentials(q, key, head)
            weights = powers * scale
            d_value += _dot(weights.astype(value.dtype), d_out, (0, 0))
            d_weights = _dot(d_out, value, (1, 1))
            mean = (weights * d_weights).sum(axis=1, keepdims=True)
            d_scores = (weights * (d_weights - mean) * head**-0.5).astype(query.dtype)
            d_query = jnp.where(mine, _dot(d_scores, key, (1, 0)), d_query)
            d_key += _dot(d_scores, q, (0, 0))
        for (array, part), gradient in zip(parts, (d_query, d_key, d_value)):
            first: Any = part * width
            if lanes < width:
                first = pl.multiple_of(first + group * lanes, LANES)
            out_refs[array][clip, :, pl.ds(first, lanes)] = gradient.astype(query.dtype)
        d_q_bias_ref[clip] = d_query.sum(axis=0, keepdims=True)
        d_v_bias_ref[clip] = d_value.sum(axis=0, keepdims=True)
