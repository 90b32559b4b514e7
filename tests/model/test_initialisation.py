"""Initial parameters have the statistics of the published rules."""

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from hicmae_jax.model import sizes
from hicmae_jax.model.config import ExecutionConfig, FinetuneConfig, MaskConfig
from hicmae_jax.model.finetune import HiCMAEFinetune
from hicmae_jax.model.hicmae import HiCMAE
from tests.support import tiny_model

# Every kind of parameter, in more than one layer where there are stacks, and wide enough for statistics.
GEOMETRY = {"image_size": 32, "frames": 4, "audio_frames": 32, "audio_bins": 32, "encoder_dim": 128}
GEOMETRY |= {"encoder_depth": 3, "decoder_depth": 2, "fusion_depth": 1, "skip_layers": (3,)}


@pytest.fixture(scope="module", params=[False, True], ids=["unrolled", "scanned"])
def pretrain_tree(request):
    config = sizes.model_config("mu", **GEOMETRY)
    model = HiCMAE(config, ExecutionConfig(scan_encoders=request.param))
    inputs = tiny_model.inputs(config, MaskConfig(video_ratio=0.5, audio_ratio=0.5))
    # Compiled, so that the forward pass, which no parameter needs, is left out.
    return flatten_dict(jax.jit(model.init)(jax.random.key(1), *inputs)["params"], sep="/")


@pytest.fixture(scope="module", params=[False, True], ids=["over pre-training", "from scratch"])
def finetune_tree(request):
    config = sizes.model_config("mu", **GEOMETRY)
    model = HiCMAEFinetune(config, FinetuneConfig(outputs=60), from_scratch=request.param)
    video, log_mel, _, _ = tiny_model.inputs(config, MaskConfig(video_ratio=0.5, audio_ratio=0.5))
    tree = flatten_dict(jax.jit(model.init)(jax.random.key(1), video, log_mel)["params"], sep="/")
    return request.param, tree


def assert_uniform(path, values, bound):
    """All values are within the bound, some are near it; mean and deviation are those of U(-bound, bound)."""
    values = np.asarray(values, np.float64).ravel()
    assert np.abs(values).max() <= bound * (1 + 1e-6), path
    assert np.abs(values).max() > bound * (1 - 8 / values.size), path
    assert abs(values.mean()) < 5 * bound / np.sqrt(3 * values.size), path
    # The deviation of a sample's variance is 2/√5 of the variance itself over √n.
    assert abs(values.var() / (bound**2 / 3) - 1) < 5 * 0.9 / np.sqrt(values.size), path


def assert_normal(path, values, deviation):
    values = np.asarray(values, np.float64).ravel()
    assert abs(values.mean()) < 5 * deviation / np.sqrt(values.size), path
    assert abs(values.std() / deviation - 1) < 5 / np.sqrt(2 * values.size), path
    assert np.abs(values).max() > 2.5 * deviation, path


def per_layer(path, leaf):
    """The layers of a stacked parameter, or the parameter itself."""
    return leaf if "/blocks/" in path else leaf[None]


def test_pretraining_parameters(pretrain_tree):
    kinds = set()
    for path, leaf in pretrain_tree.items():
        name = path.split("/")[-1]
        for layer in per_layer(path, leaf):
            if "patch_embed" in path:
                fan_in = 1536 if path.startswith("encoder/") else 256
                assert_uniform(path, layer, fan_in**-0.5)
                kinds.add(f"patch {name}")
            elif path.startswith("encoder_to_decoder"):
                assert_uniform(path, layer, 128**-0.5)
                kinds.add("to decoder")
            elif name == "kernel":  # Xavier on the stacked matrix: qkv (3C, C), kv (2C, C)
                assert_uniform(path, layer, np.sqrt(6 / sum(layer.shape)))
                kinds.add(path.split("/")[-2])
            elif name in ("bias", "q_bias", "v_bias"):
                assert (np.asarray(layer) == 0).all(), path
                kinds.add(name)
            elif name == "scale":
                assert (np.asarray(layer) == 1).all(), path
                kinds.add(name)
            else:
                assert name in ("mask_token", "mask_token_audio")
                assert 0.012 < np.abs(layer).max() <= 0.02, path
                kinds.add(name)
    assert kinds == {
        *("patch kernel", "patch bias", "to decoder", "qkv", "proj", "fc1", "fc2", "q", "kv", "head"),
        *("bias", "q_bias", "v_bias", "scale", "mask_token", "mask_token_audio"),
    }


def test_layers_and_modalities_differ(pretrain_tree):
    kernels = [
        np.asarray(layer).tobytes()
        for path, leaf in pretrain_tree.items()
        if path.endswith("kernel")
        for layer in per_layer(path, leaf)
    ]
    assert len(set(kernels)) == len(kernels)


def test_mask_tokens_follow_a_normal_cut_at_one_deviation():
    from hicmae_jax.model.layers import truncated_normal

    values = np.asarray(truncated_normal(0.02, 0.02)(jax.random.key(0), (100_000,)))
    assert np.abs(values).max() <= 0.02
    # A normal cut at ±1 deviation keeps 0.5396 of its deviation.
    np.testing.assert_allclose(values.std(), 0.02 * 0.5396, rtol=0.01)


def test_finetuning_parameters(finetune_tree):
    from_scratch, tree = finetune_tree
    for path, leaf in tree.items():
        name = path.split("/")[-1]
        if "patch_embed" in path:
            assert_uniform(path, leaf, (1536 if path.startswith("encoder/") else 256) ** -0.5)
        elif path.startswith("head/"):
            assert_uniform(path, leaf, (4 * 128) ** -0.5)
        elif path.endswith("_layer_weights"):
            np.testing.assert_allclose(leaf, 1 / 3, rtol=1e-6)
        elif name == "kernel" and from_scratch and not path.startswith("encoder_fusion"):
            assert_normal(path, leaf, 0.02)
        elif name == "kernel":
            assert_uniform(path, leaf, np.sqrt(6 / sum(leaf.shape)))
        else:
            assert (np.asarray(leaf) == (name == "scale")).all(), path
