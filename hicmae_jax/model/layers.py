"""Pre-norm Transformer blocks with the published parameterisation (paper equations 1 to 7).

Parameter names follow the published checkpoints (`qkv`, `q_bias`, `cross_norm2`, …). Matrices are stored
[in, out]. Parameters, normalisation statistics and softmax are float32; `execution.dtype` is that of
everything else.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from hicmae_jax.model import gpu_layers
from hicmae_jax.model.attention import attend
from hicmae_jax.model.config import CPU_LAYOUT, ExecutionConfig
from hicmae_jax.model.products import dense, kernel_dtype, product

Initializer = Callable[..., jax.Array]

EPSILON = 1e-6  # of every LayerNorm


def torch_uniform(fan_in: int) -> Initializer:
    """PyTorch's default initialiser of linears and convolutions, weights and biases: U(±1/√fan_in)."""
    bound = fan_in**-0.5

    def init(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def truncated_normal(deviation: float, cut: float) -> Initializer:
    """Initialiser: normal with the given deviation, cut at ±`cut` (absolute).

    The deviation is that of the normal distribution before the cut.
    """

    def init(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
        edge = cut / deviation
        return deviation * jax.random.truncated_normal(key, -edge, edge, shape, dtype)

    return init


xavier_uniform: Initializer = nn.initializers.xavier_uniform()


def layer_norm(execution: ExecutionConfig, name: str | None = None) -> nn.Module:
    """The LayerNorm of all modules: epsilon 1e-6, float32 two-pass statistics.

    Args:
        execution: its `dtype` is that of the result. With attention of `cudnn`, which is for GPUs only, the
            LayerNorm is the one that moves less memory there.
        name: of the module.
    """
    dtype = jnp.dtype(execution.dtype)
    if execution.attention == "cudnn":
        return gpu_layers.LayerNorm(EPSILON, dtype, name=name)
    return nn.LayerNorm(epsilon=EPSILON, dtype=dtype, use_fast_variance=False, name=name)


@jax.checkpoint
def gelu(x: jax.Array) -> jax.Array:
    """Exact GELU, x Φ(x), that keeps only `x` for the backward pass.

    By default JAX also keeps Φ(x) and its slope. For the decoders, writing and reading them takes longer than
    computing them again: see `docs/scale.md`.

    Args:
        x: of any shape.
    """
    return jax.nn.gelu(x, approximate=False)


def remat(block: type[nn.Module], policy: str, prevent_cse: bool = True) -> Callable[..., Any]:
    """Make a module class whose backward pass recomputes intermediate results.

    Args:
        block: a module class.
        policy: `none`, `dots` (keep the results of weight products) or `full` (keep only the inputs).
        prevent_cse: False inside a scan, where the loop itself keeps the compiler from merging the
            recomputation with the forward pass.
    """
    if policy == "none":
        return block
    saved = jax.checkpoint_policies.dots_with_no_batch_dims_saveable if policy == "dots" else None
    return nn.remat(block, prevent_cse=prevent_cse, policy=saved)


def drop_path(key: jax.Array, branch: jax.Array, rate: jax.Array | float) -> jax.Array:
    """Stochastic depth of one residual branch: drop whole samples, divide the rest by the keep probability.

    Args:
        key: typed PRNG key.
        branch: [B, N, C].
        rate: probability of dropping, a number or a traced scalar.

    Returns:
        [B, N, C] of the branch's dtype.
    """
    keep = jnp.float32(1.0) - rate  # not in the branch's dtype: bfloat16 has no 0.9
    kept = jax.random.bernoulli(key, keep, (branch.shape[0], 1, 1))
    return jnp.where(kept, branch / keep, 0).astype(branch.dtype)


def keep_batch_sharding(clips: jax.Array) -> jax.Array:
    """Constrain activations [B, …] to be sharded by clip, as the batch is.

    Where parameters are sharded too, XLA may send activations to the parts of a matrix instead of gathering
    the matrix, which has fewer bytes in every model that needs sharding. Without a mesh in context
    (`jax.sharding.use_abstract_mesh`) this does nothing.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or jax.sharding.AxisType.Manual in mesh.axis_types:
        return clips
    return jax.lax.with_sharding_constraint(clips, jax.P(mesh.axis_names))


class Kernel(nn.Module):
    """A matrix [in, out] as a parameter, for callers that multiply by some of its columns at a time."""

    kernel_init: Initializer = xavier_uniform

    @nn.compact
    def __call__(self, rows: int, columns: int, dtype: jnp.dtype) -> jax.Array:
        """Return the kernel [rows, columns] cast to `dtype`."""
        return self.param("kernel", self.kernel_init, (rows, columns), jnp.float32).astype(dtype)


def project(x: jax.Array, kernel: jax.Array, parts: int, execution: ExecutionConfig) -> list[jax.Array]:
    """Multiply tokens by matrices that are side by side.

    Args:
        x: [B, N, C].
        kernel: [C, parts · D] of `kernel_dtype`.
        parts: number of matrices.
        execution: the attention of `cudnn` cannot read a part of an array.

    Returns:
        [B, N, parts · D]; with `cudnn`, [B, N, D] for each matrix.
    """
    if execution.attention == "cudnn":
        made = gpu_layers.products(x, kernel, parts)
    else:
        made = (product(x, kernel, execution),)
    return [keep_batch_sharding(each) for each in made]


class SelfAttention(nn.Module):
    """Multi-head self-attention with query and value biases but no key bias (equation 2).

    Attributes:
        heads: attention heads.
        execution: how it is computed.
        last_rows: compute only this many trailing rows of the output; None computes all.
        kernel_init: initialiser of the matrices.
    """

    heads: int
    execution: ExecutionConfig = ExecutionConfig()
    last_rows: int | None = None
    kernel_init: Initializer = xavier_uniform

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Attend: [B, N, C] → [B, N or last_rows, C]."""
        width, execution, dtype = x.shape[-1], self.execution, jnp.dtype(self.execution.dtype)
        kernel = Kernel(self.kernel_init, name="qkv")(width, 3 * width, kernel_dtype(execution))
        q_bias = self.param("q_bias", nn.initializers.zeros, (width,)).astype(dtype)
        v_bias = self.param("v_bias", nn.initializers.zeros, (width,)).astype(dtype)
        x = x.astype(dtype)
        if self.last_rows is None:
            projections = project(x, kernel, 3, execution)
        else:
            projections = project(x[:, -self.last_rows :], kernel[:, :width], 1, execution)
            projections += project(x, kernel[:, width:], 2, execution)
        by_head = execution.layout == CPU_LAYOUT
        out = attend(projections, q_bias, v_bias, self.heads, execution.attention, by_head)
        out = dense(width, execution, kernel_init=self.kernel_init, name="proj")(out)
        return keep_batch_sharding(out)


class CrossAttention(nn.Module):
    """Multi-head attention from one sequence to another (equation 4), biases as in `SelfAttention`.

    Attributes:
        heads: attention heads.
        execution: how it is computed.
    """

    heads: int
    execution: ExecutionConfig = ExecutionConfig()

    @nn.compact
    def __call__(self, x: jax.Array, context: jax.Array) -> jax.Array:
        """Attend from x [B, N, C] to context [B, M, C'] → [B, N, C]."""
        width, execution, dtype = x.shape[-1], self.execution, jnp.dtype(self.execution.dtype)
        q_bias = self.param("q_bias", nn.initializers.zeros, (width,)).astype(dtype)
        v_bias = self.param("v_bias", nn.initializers.zeros, (width,)).astype(dtype)
        q_kernel = Kernel(name="q")(width, width, kernel_dtype(execution))
        projections = project(x.astype(dtype), q_kernel, 1, execution)
        kv_kernel = Kernel(name="kv")(context.shape[-1], 2 * width, kernel_dtype(execution))
        projections += project(context.astype(dtype), kv_kernel, 2, execution)
        by_head = execution.layout == CPU_LAYOUT
        out = attend(projections, q_bias, v_bias, self.heads, execution.attention, by_head)
        return keep_batch_sharding(dense(width, execution, kernel_init=xavier_uniform, name="proj")(out))


class Mlp(nn.Module):
    """Two linears around an exact GELU; the hidden layer is four times as wide (equation 3).

    Attributes:
        execution: how it is computed.
        kernel_init: initialiser of the matrices.
    """

    execution: ExecutionConfig = ExecutionConfig()
    kernel_init: Initializer = xavier_uniform

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, N, C] → [B, N, C]."""
        width = x.shape[-1]
        hidden = dense(4 * width, self.execution, kernel_init=self.kernel_init, name="fc1")(x)
        hidden = gelu(keep_batch_sharding(hidden))
        out = dense(width, self.execution, kernel_init=self.kernel_init, name="fc2")(hidden)
        return keep_batch_sharding(out)


class Block(nn.Module):
    """Self-attention and MLP, each with a LayerNorm before it and a residual around it (equation 1).

    Attributes:
        heads: attention heads.
        execution: how it is computed.
        last_rows: compute and return only this many trailing tokens; None keeps all.
        kernel_init: initialiser of the matrices.
    """

    heads: int
    execution: ExecutionConfig = ExecutionConfig()
    last_rows: int | None = None
    kernel_init: Initializer = xavier_uniform

    def setup(self) -> None:
        """Create the submodules under their published names."""
        self.norm1 = layer_norm(self.execution)
        self.attn = SelfAttention(self.heads, self.execution, self.last_rows, self.kernel_init)
        self.norm2 = layer_norm(self.execution)
        self.mlp = Mlp(self.execution, self.kernel_init)

    def add(self, x: jax.Array, branch: jax.Array, drop_rate: jax.Array | None) -> jax.Array:
        """Add a branch to the residual stream, with stochastic depth if a rate is given."""
        if drop_rate is not None:
            branch = drop_path(self.make_rng("drop_path"), branch, drop_rate)
        return x + branch

    def __call__(self, x: jax.Array, drop_rate: jax.Array | None = None) -> jax.Array:
        """Transform tokens.

        Args:
            x: [B, N, C].
            drop_rate: stochastic-depth rate, which needs the `drop_path` stream; None is deterministic.

        Returns:
            [B, N or last_rows, C].
        """
        if self.execution.attention == "cudnn":
            x = gpu_layers.in_rows(x)
        attended = self.attn(self.norm1(x))
        if self.last_rows is not None:
            x = x[:, -self.last_rows :]
        x = self.add(x, attended, drop_rate)
        return self.add(x, self.mlp(self.norm2(x)), drop_rate)


class CrossBlock(Block):
    """A block that first attends to another sequence, which has its own LayerNorm (equations 5 to 7)."""

    def setup(self) -> None:
        """Create the submodules under their published names."""
        super().setup()
        self.cross_norm1 = layer_norm(self.execution)
        self.cross_norm2 = layer_norm(self.execution)
        self.cross_attn = CrossAttention(self.heads, self.execution)

    def __call__(  # type: ignore[override]  # it takes a context too
        self, x: jax.Array, context: jax.Array, drop_rate: jax.Array | None = None
    ) -> jax.Array:
        """Transform tokens.

        Args:
            x: [B, N, C].
            context: [B, M, C'].
            drop_rate: as in `Block`.

        Returns:
            [B, N or last_rows, C].
        """
        attended = self.cross_attn(self.cross_norm1(x), self.cross_norm2(context))
        return super().__call__(self.add(x, attended, drop_rate), drop_rate)
