"""A hidden modality is zero for the model, and how often each is hidden is what was asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hicmae_jax.model import tokens
from hicmae_jax.preprocessing.keys import clip_keys
from hicmae_jax.preprocessing.missing import draw_hidden, hide

RNG = np.random.default_rng(0)
VIDEO = RNG.integers(0, 256, (3, 2, 16, 16, 3), dtype=np.uint8)
LOG_MEL = RNG.standard_normal((3, 16, 128)).astype(np.float32)
NO_VIDEO, NO_AUDIO = jnp.array([True, False, False]), jnp.array([False, True, False])


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_a_hidden_modality_is_zero_and_all_else_is_unchanged(kind):
    given = VIDEO if kind == np.uint8 else VIDEO.astype(np.float32) / 255
    video, log_mel = hide(jnp.asarray(given), jnp.asarray(LOG_MEL), NO_VIDEO, NO_AUDIO)
    seen = tokens.normalise(tokens.tubelets(video, 2, 16))
    np.testing.assert_allclose(seen[0], 0, atol=1e-6)
    np.testing.assert_allclose(video[1:], VIDEO[1:].astype(np.float32) / 255, rtol=1e-6)
    assert not log_mel[1].any()
    np.testing.assert_array_equal(log_mel[np.array([0, 2])], LOG_MEL[[0, 2]])


def drawn(share, step=0, examples=20_000):
    keys = clip_keys(jax.random.key(3), "modality dropout", step, jnp.arange(examples))
    return [np.asarray(part) for part in jax.jit(jax.vmap(lambda key: draw_hidden(key, share)))(keys)]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_either_modality_is_hidden_equally_often_and_never_both(share):
    no_video, no_audio = drawn(share)
    assert not (no_video & no_audio).any()
    for part in (no_video, no_audio):
        np.testing.assert_allclose(part.mean(), share / 2, atol=4 * np.sqrt(share / 2 / 20_000))


def test_draws_follow_from_seed_step_and_example():
    first, again, later = (drawn(0.5, step, 200)[0] for step in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first[:50], drawn(0.5, 0, 50)[0])
    assert (first != later).any()
