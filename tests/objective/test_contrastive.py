"""InfoNCE over a mesh: equal to that on one device, with little communication and memory."""

import math
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hicmae_jax.objective import contrastive, losses
from hicmae_jax.training import sharding
from tests.support import tpu_compiler

LEVELS, ROWS, WIDTH = 3, 48, 16
WEIGHTS = jnp.array([1.0, 0.5, 2.0])
"""Different weights, so that the test notices exchanged levels."""
TEMPERATURE = 0.07


def features(rows=ROWS, alike=1.0, seed=0):
    """(video levels, audio levels): more or less similar pairs, of lengths other than 1."""
    rng = np.random.default_rng(seed)
    video = rng.standard_normal((LEVELS, rows, WIDTH)).astype(np.float32)
    audio = alike * video + rng.standard_normal(video.shape).astype(np.float32)
    return tuple(3 * video), tuple(audio)


def compiled(mesh, group=None, chunk=contrastive.CHUNK, temperature=TEMPERATURE):
    """Features → (losses, gradient of their weighted sum), on a mesh."""

    def loss(levels):
        values = contrastive.info_nce(*levels, temperature, group, mesh, chunk)
        return values @ WEIGHTS, values

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


def plain(levels, group=None, temperature=TEMPERATURE):
    def loss(levels):
        values = jnp.stack([losses.info_nce_reference(*pair, temperature, group) for pair in zip(*levels)])
        return values @ WEIGHTS, values

    return jax.jit(jax.value_and_grad(loss, has_aux=True))(levels)


def on(mesh, levels):
    return jax.device_put(levels, sharding.batch_sharding(mesh))


def assert_same(actual, expected):
    np.testing.assert_allclose(actual[0][1], expected[0][1], rtol=1e-5)
    for one, other in zip(jax.tree.leaves(actual[1]), jax.tree.leaves(expected[1]), strict=True):
        assert np.linalg.norm(one - other) <= 1e-5 * np.linalg.norm(other)


@pytest.mark.parametrize(
    ("fsdp", "group", "chunk"),
    [
        (1, None, 2048),  # one chunk
        (4, None, 16),
        (1, None, 7),  # the last chunk shares columns with the one before
        (4, 12, 2048),  # two devices' rows
        (1, 3, 2048),  # two groups on a device
        (4, 16, 2048),  # a group that ends amid a device's rows
    ],
)
def test_a_mesh_and_chunks_change_nothing(fsdp, group, chunk):
    mesh, levels = sharding.make_mesh(fsdp), features()
    assert_same(compiled(mesh, group, chunk)(on(mesh, levels)), plain(levels, group))


@pytest.mark.parametrize("temperature", [0.005, 1.0])
def test_a_mesh_changes_nothing_at_any_temperature(temperature):
    """At 0.005 logits span 400: exponentials in float32 need the maximum of each row subtracted."""
    mesh, levels = sharding.make_mesh(fsdp=4), features(alike=0.0)
    actual = compiled(mesh, chunk=16, temperature=temperature)(on(mesh, levels))
    assert_same(actual, plain(levels, temperature=temperature))


def test_a_batch_that_the_devices_do_not_divide():
    levels = features(rows=20)
    assert_same(compiled(sharding.make_mesh())(levels), plain(levels))


def test_without_a_gradient_the_loss_is_the_same():
    mesh, levels = sharding.make_mesh(), features()
    loss = jax.jit(lambda levels: contrastive.info_nce(*levels, TEMPERATURE, None, mesh, 16))
    np.testing.assert_allclose(loss(on(mesh, levels)), plain(levels)[0][1], rtol=1e-5)


def test_a_model_without_levels_has_no_loss():
    assert contrastive.info_nce((), (), TEMPERATURE, None, sharding.make_mesh()).shape == (0,)


# --- What is sent and held ----------------------------------------------------------------------------------

LARGE = 512
GATHERED = 2 * LEVELS * LARGE * WIDTH


def program(group, mesh=None):
    """The program of a larger batch, compiled for all devices."""
    spread = sharding.batch_sharding(sharding.make_mesh())
    level = jax.ShapeDtypeStruct((LARGE, WIDTH), jnp.float32, sharding=spread)
    levels = ((level,) * LEVELS,) * 2
    gradients = jax.tree.map(lambda _: spread, levels)
    function = jax.jit(compiled(mesh, group, chunk=32), out_shardings=(None, gradients))
    return function.lower(levels).compile().as_text()


def sizes(text):
    """Sizes in elements of all arrays that a program has on a device."""
    return [
        math.prod(int(size) for size in shape.split(",")) for shape in re.findall(r"f32\[([\d,]+)\]", text)
    ]


def moves(text):
    """Sizes in elements of all arrays that devices send, except sums of one number for each level."""
    names = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"
    sent = re.findall(rf"= (.*) (?:{names})(?:-start)?\(", text)
    return sorted(size for shapes in sent for size in sizes(shapes) if size > LEVELS)


def test_groups_on_one_device_need_no_communication():
    assert moves(program(group=LARGE // 8, mesh=sharding.make_mesh())) == []
    assert moves(program(group=LARGE // 4, mesh=sharding.make_mesh()))  # so the above can fail


def test_features_are_gathered_once_and_no_array_is_larger():
    text = program(group=None, mesh=sharding.make_mesh())
    assert moves(text) == [2 * LEVELS * LARGE, GATHERED]  # and a number a row
    assert max(sizes(text)) == GATHERED


@pytest.mark.parametrize("kept", [0, 2**28])
def test_large_features_are_gathered_level_by_level(monkeypatch, kept):
    monkeypatch.setattr(contrastive, "KEEP_ALL_LEVELS", kept)
    monkeypatch.setattr(contrastive, "GATHER_ALL_LEVELS", 4 * GATHERED - 1)
    text = program(group=None, mesh=sharding.make_mesh())
    assert moves(text) == [2 * LARGE] * LEVELS + [GATHERED // LEVELS] * LEVELS
    assert max(sizes(text)) == GATHERED // LEVELS
    monkeypatch.setattr(contrastive, "GATHER_ALL_LEVELS", 0)
    mesh, levels = sharding.make_mesh(fsdp=2), features()
    assert_same(compiled(mesh, chunk=16)(on(mesh, levels)), plain(levels))


@pytest.mark.slow
@tpu_compiler.needs_libtpu
def test_a_large_batch_on_a_pod_needs_little_more_memory_than_the_features_of_a_level():
    """By the TPU compiler: 128 MiB of features of one level, and a few numbers for each row."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.contrast_memory", "--topology=v5e:16x16", "--batch=32768"],
        capture_output=True,
        text=True,
        env=tpu_compiler.environment(),
    )
    plain, own = re.findall(r"temporaries ([\d.]+), at most [\d.]+; (.*)", done.stdout)
    assert float(own[0]) < 140 < 300 < float(plain[0]), done.stdout
    assert re.fullmatch(r"3 all-gather 384\.0, 3 all-reduce 0\.\d", own[1]), done.stdout
