"""Attention rollout of the encoders of a fine-tuned model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hicmae_jax.evaluation import rollout
from hicmae_jax.evaluation.rollout import attention_rollout
from hicmae_jax.model.config import FinetuneConfig
from hicmae_jax.model.initialise import finetune_initialiser
from hicmae_jax.model.layers import SelfAttention
from tests.support import tiny_model

CONFIG = tiny_model.model_config()


@pytest.fixture(scope="module")
def params():
    return finetune_initialiser(CONFIG, FinetuneConfig(outputs=3))(jax.random.key(0))


def inputs():
    found = tiny_model.inputs(CONFIG, batch=2)
    return found.video, found.log_mel


def test_a_map_has_a_share_for_each_token_and_sums_to_one(params):
    found = attention_rollout(params, CONFIG, *inputs())
    assert found.video.shape == (2, 2, 2, 2)
    assert found.audio.shape == (2, 2, 2)
    for each in found:
        assert (each >= 0).all()
        np.testing.assert_allclose(each.reshape(2, -1).sum(-1), 1, rtol=1e-5)


def test_attention_without_a_preference_is_spread_evenly(params):
    def without_queries(path, leaf):
        names = [entry.key for entry in path]
        if names[-1] == "q_bias":
            return jnp.zeros_like(leaf)
        width = CONFIG.encoder_dim
        return leaf.at[:, :width].set(0) if names[-2:] == ["qkv", "kernel"] else leaf

    even = jax.tree_util.tree_map_with_path(without_queries, params)
    found = attention_rollout(even, CONFIG, *inputs())
    np.testing.assert_allclose(found.video, 1 / 8, rtol=1e-5)
    np.testing.assert_allclose(found.audio, 1 / 4, rtol=1e-5)


def test_the_attention_is_that_of_the_model(params):
    """Values that say which token they are of make the layer's output its attention, mean over heads."""
    tokens, heads, width = 4, CONFIG.encoder_heads, CONFIG.encoder_dim
    attn = jax.tree.map(np.array, params["encoder_audio"]["blocks_0"]["attn"])
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, tokens, width)).astype(np.float32)
    attn["q_bias"] = rng.normal(size=width).astype(np.float32)
    names = np.tile(np.eye(tokens, width // heads, dtype=np.float32), heads)
    attn["qkv"]["kernel"][:, 2 * width :] = np.linalg.pinv(x[0]) @ names
    attn["proj"]["kernel"] = np.tile(np.eye(width // heads, width), (heads, 1)).astype(np.float32) / heads
    out = SelfAttention(heads).apply({"params": attn}, jnp.asarray(x))
    expected = rollout._attention(attn, jnp.asarray(x), heads)
    np.testing.assert_allclose(out[..., :tokens], expected, atol=1e-5)
    assert float(jnp.std(expected)) > 0.01


def test_a_model_of_one_modality_has_one_map(params):
    only = {name: tree for name, tree in params.items() if name != "encoder_audio"}
    found = attention_rollout(only, CONFIG, *inputs())
    assert found.audio is None
    assert found.video is not None
