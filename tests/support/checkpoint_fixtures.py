"""A record and a state for checkpoints, and looking at what was saved."""

import jax
import jax.numpy as jnp
import numpy as np

from hicmae_jax.checkpoints.load import PARAMETERS

RECORD = {
    "config": {"seed": 3, "model": {"skip_layers": [4, 7]}},
    "versions": {"jax": "0"},
    "data": {"d": "f"},
}


def one_array(size=1000):
    """A state of one array. If there were several, a failed save would leave arrays that warn when freed."""
    return {PARAMETERS: {"kernel": jnp.asarray(np.random.default_rng(0).random(size, np.float32))}}


def assert_same_bits(actual, expected):
    """Both trees have the same structure, types, shapes and bits."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        one, other = np.asarray(one), np.asarray(other)
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


def steps_in(run):
    """The steps of the checkpoints of a run, sorted."""
    return sorted(int(path.name) for path in (run / "checkpoints").iterdir())


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


def damage(run, step, kind, how):
    """Damages one file and returns its name within the checkpoint."""
    directory = run / f"checkpoints/{step}"
    path = sorted(directory.glob(kind))[0]
    how(path)
    return path.relative_to(directory).as_posix()
