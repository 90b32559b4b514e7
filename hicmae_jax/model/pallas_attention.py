"""Multi-head attention as one TPU kernel a clip and group of heads, which never writes its scores to memory.

The whole matrix of scores of a head lies on the chip: 800 × 800 of float32 are 2.6 MB of the 16 that a kernel
has. So there is no blocking over keys: a row's maximum and sum are at hand, the backward kernel makes them
again, and queries, keys and values are all that is kept for it.

Heads are contiguous channels, and a kernel reads as many of them as fill the 128 lanes of a register. It
takes a head's channels by zeroing the others, not by cutting them out: a product over 128 channels takes the
matrix unit no longer than one over 64, while shifting channels along the lanes costs a pass of its own.
Projections are read, and their gradients written, side by side as one matrix product makes them, and the
biases are added here, because what surrounds a kernel is not fused into it: each split, sum or transposition
outside would be a pass over memory.
"""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

LANES = 128  # of a vector register: blocks of channels are multiples of it, or all channels there are

ROWS = 800
"""A program takes several clips of short sequences, up to so many tokens: each costs a fixed time besides."""

MEMORY = 48 * 2**20
"""On-chip memory that a kernel may take, bytes; v5e, v5p and v6e have 64 MiB or more."""

Arrays = tuple[jax.Array, ...]


def attention(
    projections: Sequence[jax.Array], q_bias: jax.Array, v_bias: jax.Array, heads: int
) -> jax.Array:
    """softmax((q + q_bias) kᵀ / √d) (v + v_bias) of every head, softmax in float32.

    Products take the inputs in their own dtype and sum in float32. On other platforms than a TPU the kernel
    is interpreted, which is slow, and there for tests. Where a mesh is in context, the clips are spread over
    all of its axes, so that their number must be a multiple of its devices.

    Args:
        projections: queries, keys and values side by side, [B, N, 3C]; or queries [B, N, C], and keys and
            values side by side, [B, M, 2C]; or each apart. All of one dtype.
        q_bias: [C] of the same dtype.
        v_bias: likewise.
        heads: of contiguous channels; they divide C.

    Returns:
        [B, N, C] of that dtype.

    Raises:
        ValueError: projections of other widths.
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
        # Blocks can begin at a multiple of 128 channels alone, so these are cut apart beforehand.
        projections = [part for x, n in zip(projections, parts) for part in jnp.split(x, n, axis=-1)]
    return _attention(tuple(projections), q_bias, v_bias, heads)


def fits(projections: Sequence[jax.Array], width: int, heads: int) -> bool:
    """Whether the chip has the memory for sequences of this length; arguments as for `attention`."""
    return _Layout(projections, width, heads).memory() <= MEMORY


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _attention(projections: Arrays, q_bias: jax.Array, v_bias: jax.Array, heads: int) -> jax.Array:
    return _run(_forward_call, heads, (*projections, q_bias, v_bias), biases=2)


def _keep(projections: Arrays, q_bias: jax.Array, v_bias: jax.Array, heads: int) -> tuple[jax.Array, tuple]:
    return _attention(projections, q_bias, v_bias, heads), (projections, q_bias, v_bias)


def _backward(heads: int, kept: tuple, cotangent: jax.Array) -> tuple[Arrays, jax.Array, jax.Array]:
    projections, q_bias, v_bias = kept
    *of_projections, of_q_bias, of_v_bias = _run(
        _backward_call, heads, (cotangent, *projections, q_bias, v_bias), biases=2
    )
    # A row for each clip until here, where they may lie on several devices.
    return tuple(of_projections), *(x.sum(axis=(0, 1)).astype(q_bias.dtype) for x in (of_q_bias, of_v_bias))


_attention.defvjp(_keep, _backward)


def _run(call: Callable, heads: int, arrays: Arrays, biases: int) -> jax.Array | Arrays:
    """Call a kernel where the computation is to run: compiled or interpreted, on each device's own clips.

    Args:
        call: (*arrays, heads, interpret) → an array or several, each of B clips.
        heads: for it.
        arrays: each of B clips, but for the last.
        biases: how many of them are the same for all clips.
    """

    def on_device(*arrays: jax.Array) -> jax.Array | Arrays:
        # By the platform that is compiled for, which need not be the one that compiles.
        return jax.lax.platform_dependent(
            *arrays,
            tpu=functools.partial(call, heads=heads, interpret=False),
            default=functools.partial(call, heads=heads, interpret=True),
        )

    mesh = jax.sharding.get_abstract_mesh()
    # Axes that are manual are split already.
    axes = tuple(
        name for name, kind in zip(mesh.axis_names, mesh.axis_types) if kind != jax.sharding.AxisType.Manual
    )
    if not axes:
        return on_device(*arrays)
    # XLA cannot split a kernel by itself.
    clips = jax.P(axes)
    specs = (clips,) * (len(arrays) - biases) + (jax.P(),) * biases
    return jax.shard_map(on_device, in_specs=specs, out_specs=clips, check_vma=False)(*arrays)


class _Layout:
    """Where queries, keys and values lie, and the blocks of them that a kernel gets.

    The grid is (clips / those of one program, groups of heads).

    Attributes:
        batch: clips.
        clips: of one program.
        rows: queries.
        keys: keys and values.
        itemsize: bytes of a number.
        width: channels.
        lanes: channels of a group of heads.
        groups: how many of these.
        parts: for queries, keys and values: number of the array, and of the part of it.
    """

    def __init__(self, projections: Arrays, width: int, heads: int) -> None:
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
        """One group's channels of a program's clips, in the given part of an array."""
        first = part * self.groups
        return pl.BlockSpec((self.clips, rows, self.lanes), lambda clips, group: (clips, 0, first + group))

    def inputs(self) -> list[pl.BlockSpec]:
        """Of queries, keys, values and the two biases [1, C]."""
        rows = (self.rows, self.keys, self.keys)
        bias = pl.BlockSpec((1, self.lanes), lambda clips, group: (0, group))
        return [*(self.group(n, part) for n, (_, part) in zip(rows, self.parts)), bias, bias]

    def operands(self, projections: Arrays) -> list[jax.Array]:
        """The arrays that hold queries, keys and values, which may be three times the same."""
        return [projections[i] for i, _ in self.parts]

    def memory(self) -> int:
        """Bytes that the backward kernel takes on the chip, which are more than the forward one's; about."""
        # Read: queries and their gradient, keys and values. Written: the gradients of all groups of heads.
        channels = (2 * self.rows + 2 * self.keys) * self.lanes + (self.rows + 2 * self.keys) * self.width
        blocks = self.clips * channels * self.itemsize
        scores = 4 * self.rows * -(-self.keys // LANES) * LANES
        # While one program works on its blocks, the next one's are read and the last one's written. Besides,
        # the compiler wants room for 3.0 to 3.4 matrices of scores, as it says where MEMORY is too little.
        return 2 * blocks + scores * 7 // 2

    def cost(self, products: int, arrays: Sequence[jax.Array | jax.ShapeDtypeStruct]) -> pl.CostEstimate:
        """Of so many products over all queries, keys and channels, and of each of the arrays once."""
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
    """Gradients of the projections, and of the biases a row for each clip, float32[B, 1, C]."""
    cotangent, *projections, q_bias, v_bias = arrays
    width = q_bias.shape[0]
    layout = _Layout(projections, width, heads)
    per_clip = jax.ShapeDtypeStruct((layout.batch, 1, width), jnp.float32)
    outs = [*(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in projections), per_clip, per_clip]
    # Parts of one array lie apart, so that it stays on the chip until all groups have been written to it.
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
    """Product of two matrices, summed in float32 over one dimension of each."""
    return jax.lax.dot_general(x, y, (((over[0],), (over[1],)), ((), ())), preferred_element_type=jnp.float32)


def _biased(x: jax.Array, bias: jax.Array) -> jax.Array:
    # In float32, for not all chips add in bfloat16; the sum has its dtype.
    return (x.astype(jnp.float32) + bias.astype(jnp.float32)).astype(x.dtype)


def _only(mine: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.where(mine, x, jnp.zeros_like(x))


def _heads(lanes: int, head: int) -> list[jax.Array]:
    """For each head of a group, bool[1, lanes]: which channels are its own."""
    owner = jax.lax.broadcasted_iota(jnp.int32, (1, lanes), 1) // head
    return [owner == i for i in range(lanes // head)]


def _exponentials(query: jax.Array, key: jax.Array, head: int) -> tuple[jax.Array, jax.Array]:
    """Softmax before its division: float32[N, M], and what to multiply a row with, float32[N, 1]."""
    scores = _dot(query, key, (1, 1))
    # The scale is positive, so the largest stays the largest, and one product does for both.
    powers = jnp.exp((scores - scores.max(axis=1, keepdims=True)) * head**-0.5)
    return powers, 1 / powers.sum(axis=1, keepdims=True)


def _forward_kernel(q_ref, k_ref, v_ref, q_bias_ref, v_bias_ref, out_ref, *, head: int) -> None:  # noqa: ANN001
    @pl.loop(0, q_ref.shape[0])
    def _(clip: jax.Array) -> None:
        query, key = _biased(q_ref[clip], q_bias_ref[...]), k_ref[clip]
        value = _biased(v_ref[clip], v_bias_ref[...])
        out = jnp.zeros(query.shape, jnp.float32)
        for mine in _heads(query.shape[1], head):
            powers, scale = _exponentials(_only(mine, query), key, head)
            out = jnp.where(mine, _dot(powers.astype(value.dtype), value, (1, 0)) * scale, out)
        out_ref[clip] = out.astype(out_ref.dtype)


def _backward_kernel(*refs, head: int, parts: Sequence[tuple[int, int]], width: int) -> None:  # noqa: ANN002
    q_ref, k_ref, v_ref, q_bias_ref, v_bias_ref, cotangent_ref, *out_refs, d_q_bias_ref, d_v_bias_ref = refs
    clips, _, lanes = q_ref.shape
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
            first = part * width
            if lanes < width:
                first = pl.multiple_of(first + group * lanes, LANES)
            out_refs[array][clip, :, pl.ds(first, lanes)] = gradient.astype(query.dtype)
        d_q_bias_ref[clip] = d_query.sum(axis=0, keepdims=True)
        d_v_bias_ref[clip] = d_value.sum(axis=0, keepdims=True)
