"""The norm by few kernels is that of optax, and is taken on GPUs with whole parameters only."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hicmae_jax.training import norms, sharding


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


TREES = {
    "small and large": {"bias": normal(512), "kernels": normal(3, 256, 512), "scale": 9 + normal(7, 5)},
    "small": {"bias": normal(512), "number": jnp.float32(3)},
    "large": {"kernel": normal(256, 512)},
}


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
def test_the_norm_of_joined_leaves_is_the_norm(tree):
    assert norms.of_joined_leaves(tree) == pytest.approx(float(optax.tree.norm(tree)), rel=1e-6)


def test_one_number_that_is_not_finite_makes_the_norm_so():
    for name, leaf in TREES["small and large"].items():
        bad = TREES["small and large"] | {name: leaf.at[..., 0].set(jnp.nan)}
        assert not jnp.isfinite(norms.of_joined_leaves(bad))


@pytest.mark.parametrize(
    ("platform", "fsdp", "few"), [("gpu", 1, True), ("gpu", 2, False), ("cpu", 1, False), ("tpu", 1, False)]
)
def test_gpus_with_whole_parameters_take_it(platform, fsdp, few):
    devices = np.array([types.SimpleNamespace(platform=platform)] * 4).reshape(-1, fsdp)
    mesh = types.SimpleNamespace(devices=devices, shape={sharding.DATA: 4 // fsdp, sharding.FSDP: fsdp})
    assert norms.for_devices(mesh) is (norms.of_joined_leaves if few else optax.tree.norm)


def test_norms_before_an_update():
    grads, params = TREES["small and large"], TREES["small"]
    expected = [float(optax.tree.norm(tree)) for tree in (grads, params)]
    found = jax.jit(lambda *trees: norms.before_update(norms.of_joined_leaves, *trees))(grads, params)
    assert [float(x) for x in found] == pytest.approx(expected, rel=1e-6)
    first, second = norms.before_update(optax.tree.norm, grads, params)
    assert (float(first), second) == (expected[0], None)
