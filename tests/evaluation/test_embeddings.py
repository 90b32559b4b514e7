"""Embeddings are each encoder's features of all tokens, for unrolled and scanned encoders."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipeline.format.clip_sampling import ClipSampling
from data_pipeline.reading.fixed_clips import FixedClips
from hicmae_jax.evaluation.batched import BatchedApply
from hicmae_jax.evaluation.embeddings import embed_clips, evaluated_layers, level_features
from hicmae_jax.model.config import ExecutionConfig, FinetuneConfig
from hicmae_jax.model.finetune import HiCMAEFinetune
from hicmae_jax.preprocessing.pretrain import PreprocessConfig
from hicmae_jax.weights import torch_names
from tests.support import set_fixtures, tiny_model

MODEL = tiny_model.model_config(audio_bins=128)


@pytest.fixture(scope="module")
def params():
    return tiny_model.parameters(MODEL)


@pytest.fixture(scope="module")
def inputs():
    return tiny_model.inputs(MODEL)[:2]


@pytest.fixture(scope="module")
def features(params, inputs):
    return level_features(params, *inputs, MODEL)


def test_features_are_those_that_fine_tuning_starts_from(params, inputs, features):
    """The fine-tuning model computes the mean of the last layer in its own code."""
    finetune = FinetuneConfig(outputs=2, feature_fusion=False)
    for number, modality in enumerate(("video", "audio")):
        model = HiCMAEFinetune(MODEL, dataclasses.replace(finetune, modality=modality))
        given = [x if modality == name else None for name, x in zip(("video", "audio"), inputs)]
        shapes = jax.eval_shape(model.init, jax.random.key(0), *given)["params"]
        encoder = "encoder" if modality == "video" else "encoder_audio"
        filled = tiny_model.random_like(shapes) | {encoder: params[encoder]}
        feature = model.apply({"params": filled}, *given).feature
        own = features[MODEL.encoder_depth][number]
        centred = own - own.mean(-1, keepdims=True)
        normed = centred / jnp.sqrt(own.var(-1, keepdims=True) + 1e-6)
        expected = normed * filled["fc_norm"]["scale"] + filled["fc_norm"]["bias"]
        np.testing.assert_allclose(feature, expected, rtol=1e-4, atol=1e-5)


def test_scanned_encoders_give_the_same_features(params, inputs, features):
    scanned = ExecutionConfig(scan_encoders=True)
    stacked = level_features(torch_names.stack_layers(params), *inputs, MODEL, scanned)
    assert stacked.keys() == features.keys()
    for one, other in zip(jax.tree.leaves(stacked), jax.tree.leaves(features)):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_features_of_one_modality_do_not_depend_on_the_other(params, inputs, features):
    video, log_mel = inputs
    other_sound = level_features(params, video, log_mel[::-1], MODEL)
    other_picture = level_features(params, video[::-1], log_mel, MODEL)
    for layer, (of_video, of_audio) in features.items():
        np.testing.assert_array_equal(other_sound[layer][0], of_video)
        np.testing.assert_array_equal(other_picture[layer][1], of_audio)
        assert not np.allclose(other_sound[layer][1], of_audio)
        assert not np.allclose(other_picture[layer][0], of_video)


def test_every_tapped_layer_and_the_last_are_evaluated(features):
    assert list(features) == [1, 3]
    assert all(x.shape == (4, 32) and x.dtype == jnp.float32 for x in jax.tree.leaves(features))
    assert evaluated_layers(tiny_model.model_config(skip_layers=(1, 2))) == (1, 2, 3)
    assert evaluated_layers(tiny_model.model_config(skip_layers=())) == (3,)


def test_features_depend_neither_on_the_batch_nor_on_augmentation(params, tmp_path):
    root = set_fixtures.write_set(tmp_path / "set", [20, 31, 16, 25, 40], size=32, noisy=True)
    embed = BatchedApply(embed_clips(PreprocessConfig(model=MODEL, masks=tiny_model.MASKS)), rows=3)
    sampling = ClipSampling(frames=4, stride=4)
    one, other = (embed(params, FixedClips([root], sampling, batch=n)) for n in (3, 2))
    for features, again in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert features.shape == (5, 32)
        np.testing.assert_allclose(features, again, rtol=1e-5, atol=1e-6)
        assert np.linalg.norm(features[0] - features[1]) > 1e-3


def test_clips_of_another_geometry_are_refused(params, inputs):
    with pytest.raises(ValueError, match=r"this model takes \[B, 4, 32, 32, 3\]"):
        level_features(params, inputs[0][:, :2], inputs[1], MODEL)
