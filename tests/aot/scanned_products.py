"""A small step for 16 TPUs: a scan of products, and a sum of gradients over the chips in each turn.

python -m tests.aot.scanned_products > products.txt
python -m tests.aot.strip products.txt tests/aot/scanned_products_v5e.hlo.xz
"""

import os
import sys

LAYERS, WIDTH, ROWS = 8, 2048, 4096  # rows of a chip


def compiled_text(reduce_dtype: str = "computed") -> str:
    """The step as the TPU compiler compiles it with this project's options.

    Args:
        reduce_dtype: in which the gradients are summed.
    """
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax
    import jax.numpy as jnp

    from hicmae_jax.aot import topology
    from hicmae_jax.model.config import ExecutionConfig
    from hicmae_jax.model.products import kernel_dtype, product
    from hicmae_jax.training import compiler_options, sharding

    mesh = sharding.make_mesh(devices=topology.devices("v5e:4x4"))

    execution = ExecutionConfig(dtype="bfloat16", reduce_dtype=reduce_dtype)

    def layer(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, None]:
        return jnp.tanh(product(x, kernel.astype(kernel_dtype(execution)), execution)), None

    def loss(kernels: jax.Array, x: jax.Array) -> jax.Array:
        return (jax.lax.scan(jax.checkpoint(layer), x, kernels)[0].astype(jnp.float32) ** 2).mean()

    def step(kernels: jax.Array, x: jax.Array) -> jax.Array:
        return kernels - 0.1 * jax.grad(loss)(kernels, x)

    kernels = jax.ShapeDtypeStruct((LAYERS, WIDTH, WIDTH), jnp.float32, sharding=sharding.replicated(mesh))
    x = jax.ShapeDtypeStruct((ROWS * mesh.size, WIDTH), jnp.bfloat16, sharding=sharding.batch_sharding(mesh))
    lowered = jax.jit(step, donate_argnums=0).lower(kernels, x)
    text = lowered.compile(compiler_options=compiler_options.of("tpu")).as_text()
    assert text is not None
    return text


if __name__ == "__main__":
    print(compiled_text(*sys.argv[1:]))
