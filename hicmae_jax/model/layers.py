"""Pre-norm Transformer blocks with the published parameterisation (paper equations 1 to 7).

Parameter names follow the published checkpoints (`qkv`, `q_bias`, `cross_norm2`, …). Matrices are stored
[in, out]. Parameters are float32; `dtype` is that of the computation, while normalisation statistics and
softmax are always float32.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from hicmae_jax.model.attention import attend

Initializer = Callable[..., jax.Array]

EPSILON = 1e-6  # of every LayerNorm


def torch_uniform(fan_in: int) -> Initializer:
    """PyTorch's default for linears and convolutions, U(±1/√fan_in), for weights and biases alike."""
    bound = fan_in**-0.5

    def init(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def truncated_normal(deviation: float, cut: float) -> Initializer:
    """Normal of the given deviation, redrawn beyond ±`cut` (absolute); the deviation is before the cut."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
        edge = cut / deviation
        return deviation * jax.random.truncated_normal(key, -edge, edge, shape, dtype)

    return init


xavier_uniform: Initializer = nn.initializers.xavier_uniform()


def layer_norm(dtype: jnp.dtype, name: str | None = None) -> nn.LayerNorm:
    """The LayerNorm of every place: epsilon 1e-6, float32 two-pass statistics."""
    return nn.LayerNorm(epsilon=EPSILON, dtype=dtype, use_fast_variance=False, name=name)


@jax.checkpoint
def gelu(x: jax.Array) -> jax.Array:
    """GELU, x Φ(x), exact; of it the backward pass keeps `x` alone.

    Left to itself JAX keeps Φ(x) and its slope too, which for the decoders is more to write and read than
    computing both again: see `docs/scale.md`.

    Args:
        x: of any shape.
    """
    return jax.nn.gelu(x, approximate=False)


def remat(block: type[nn.Module], policy: str, prevent_cse: bool = True) -> type[nn.Module]:
    """The block with a rule for what its backward pass recomputes.

    Args:
        block: a module class.
        policy: `none`, `dots` (keep the results of weight products) or `full` (keep only the inputs).
        prevent_cse: False inside a scan, where the loop itself keeps the compiler from undoing it.
    """
    if policy == "none":
        return block
    saved = jax.checkpoint_policies.dots_with_no_batch_dims_saveable if policy == "dots" else None
    return nn.remat(block, prevent_cse=prevent_cse, policy=saved)


def drop_path(key: jax.Array, branch: jax.Array, rate: jax.Array | float) -> jax.Array:
    """Stochastic depth of one residual branch: whole samples dropped, survivors over the keep probability.

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


def at_home(clips: jax.Array) -> jax.Array:
    """Activations [B, …], told to stay on the devices that hold their clips.

    Where parameters are split too, XLA may send activations to the parts of a matrix instead of gathering the
    matrix, which is the smaller at any size worth splitting. Does nothing without a mesh in context
    (`jax.sharding.use_abstract_mesh`).
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or jax.sharding.AxisType.Manual in mesh.axis_types:
        return clips
    return jax.lax.with_sharding_constraint(clips, jax.P(mesh.axis_names))


class Kernel(nn.Module):
    """A matrix [in, out] without its product, for callers that use only some of its columns at a time."""

    init: Initializer = xavier_uniform

    @nn.compact
    def __call__(self, rows: int, columns: int, dtype: jnp.dtype) -> jax.Array:
        """Return the kernel [rows, columns] cast to `dtype`."""
        return self.param("kernel", self.init, (rows, columns), jnp.float32).astype(dtype)


class SelfAttention(nn.Module):
    """Multi-head self-attention with query and value biases but no key bias (equation 2).

    Attributes:
        heads: attention heads.
        dtype: of the computation.
        last_rows: compute only this many trailing rows of the output; None computes all.
        init: initialiser of the matrices.
        attention: its implementation, `xla` or `pallas`, see `attend`.
    """

    heads: int
    dtype: jnp.dtype = jnp.float32
    last_rows: int | None = None
    init: Initializer = xavier_uniform
    attention: str = "xla"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Attend [B, N, C] → [B, N or last_rows, C]."""
        width = x.shape[-1]
        kernel = Kernel(self.init, name="qkv")(width, 3 * width, self.dtype)
        q_bias = self.param("q_bias", nn.initializers.zeros, (width,)).astype(self.dtype)
        v_bias = self.param("v_bias", nn.initializers.zeros, (width,)).astype(self.dtype)
        x = x.astype(self.dtype)
        if self.last_rows is None:
            projections = [at_home(x @ kernel)]
        else:
            last = x[:, -self.last_rows :]
            projections = [at_home(last @ kernel[:, :width]), at_home(x @ kernel[:, width:])]
        out = attend(projections, q_bias, v_bias, self.heads, self.attention)
        return at_home(nn.Dense(width, dtype=self.dtype, kernel_init=self.init, name="proj")(out))


class CrossAttention(nn.Module):
    """Multi-head attention from one sequence to another (equation 4), biases as in `SelfAttention`.

    Attributes:
        heads: attention heads.
        dtype: of the computation.
        attention: as in `SelfAttention`.
    """

    heads: int
    dtype: jnp.dtype = jnp.float32
    attention: str = "xla"

    @nn.compact
    def __call__(self, x: jax.Array, context: jax.Array) -> jax.Array:
        """Attend from x [B, N, C] to context [B, M, C'] → [B, N, C]."""
        width = x.shape[-1]
        q_bias = self.param("q_bias", nn.initializers.zeros, (width,)).astype(self.dtype)
        v_bias = self.param("v_bias", nn.initializers.zeros, (width,)).astype(self.dtype)
        query = at_home(x.astype(self.dtype) @ Kernel(name="q")(width, width, self.dtype))
        kv_kernel = Kernel(name="kv")(context.shape[-1], 2 * width, self.dtype)
        projections = [query, at_home(context.astype(self.dtype) @ kv_kernel)]
        out = attend(projections, q_bias, v_bias, self.heads, self.attention)
        return at_home(nn.Dense(width, dtype=self.dtype, kernel_init=xavier_uniform, name="proj")(out))


class Mlp(nn.Module):
    """Two linears around an exact GELU, four times as wide inside (equation 3).

    Attributes:
        dtype: of the computation.
        init: initialiser of the matrices.
    """

    dtype: jnp.dtype = jnp.float32
    init: Initializer = xavier_uniform

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, N, C] → [B, N, C]."""
        width = x.shape[-1]
        hidden = nn.Dense(4 * width, dtype=self.dtype, kernel_init=self.init, name="fc1")(x)
        hidden = gelu(at_home(hidden))
        return at_home(nn.Dense(width, dtype=self.dtype, kernel_init=self.init, name="fc2")(hidden))


class Block(nn.Module):
    """Self-attention and MLP, each after a LayerNorm and around a residual (equation 1).

    Attributes:
        heads: attention heads.
        dtype: of the computation.
        last_rows: return only this many trailing tokens, computing no more than they need; None keeps all.
        init: initialiser of the matrices.
        attention: as in `SelfAttention`.
    """

    heads: int
    dtype: jnp.dtype = jnp.float32
    last_rows: int | None = None
    init: Initializer = xavier_uniform
    attention: str = "xla"

    def setup(self) -> None:
        """Create the parts under their published names."""
        self.norm1 = layer_norm(self.dtype)
        self.attn = SelfAttention(self.heads, self.dtype, self.last_rows, self.init, self.attention)
        self.norm2 = layer_norm(self.dtype)
        self.mlp = Mlp(self.dtype, self.init)

    def add(self, x: jax.Array, branch: jax.Array, drop_rate: jax.Array | None) -> jax.Array:
        """Residual sum, with stochastic depth when a rate is given."""
        if drop_rate is not None:
            branch = drop_path(self.make_rng("drop_path"), branch, drop_rate)
        return x + branch

    def __call__(self, x: jax.Array, drop_rate: jax.Array | None = None) -> jax.Array:
        """Transform tokens.

        Args:
            x: [B, N, C].
            drop_rate: stochastic-depth rate; None is deterministic. Needs the `drop_path` stream.

        Returns:
            [B, N or last_rows, C].
        """
        attended = self.attn(self.norm1(x))
        if self.last_rows is not None:
            x = x[:, -self.last_rows :]
        x = self.add(x, attended, drop_rate)
        return self.add(x, self.mlp(self.norm2(x)), drop_rate)


class CrossBlock(Block):
    """A block that first attends to another sequence, which has its own LayerNorm (equations 5 to 7)."""

    def setup(self) -> None:
        """Create the parts under their published names."""
        super().setup()
        self.cross_norm1 = layer_norm(self.dtype)
        self.cross_norm2 = layer_norm(self.dtype)
        self.cross_attn = CrossAttention(self.heads, self.dtype, self.attention)

    def __call__(self, x: jax.Array, context: jax.Array, drop_rate: jax.Array | None = None) -> jax.Array:
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
