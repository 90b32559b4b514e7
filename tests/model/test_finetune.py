"""The fine-tuning model: features, modalities, stochastic depth and required inputs."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hicmae_jax.model import layers, tokens
from hicmae_jax.model.config import ExecutionConfig, FinetuneConfig
from hicmae_jax.model.finetune import HiCMAEFinetune
from hicmae_jax.weights.torch_names import stack_layers
from tests.support import reference_objective, tiny_model
from tests.support.trees import assert_trees_close

CONFIG = tiny_model.model_config()
SCANNED = ExecutionConfig(scan_encoders=True)


def build(config=CONFIG, execution=ExecutionConfig(), **choices):
    finetune = FinetuneConfig(**{"outputs": 5} | choices)
    model = HiCMAEFinetune(config, finetune, execution)
    video, log_mel, _, _ = tiny_model.inputs(config)
    video = None if finetune.modality == "audio" else video
    log_mel = None if finetune.modality == "video" else log_mel
    shapes = jax.eval_shape(model.init, jax.random.key(0), video, log_mel)
    return model, tiny_model.random_like(shapes["params"]), video, log_mel


def levels(params, name, values):
    every = np.ones(values.shape[:2], bool)
    return [np.asarray(level) for level in reference_objective.encode(CONFIG, params[name], values, every)]


def softmax_sum(weights, features):
    weights = np.exp(weights) / np.exp(weights).sum()
    return sum(w * level.mean(1) for w, level in zip(weights, features))


@pytest.mark.parametrize("feature_fusion", [True, False])
def test_the_feature_is_weighted_levels_and_pooled_fusion(feature_fusion):
    model, params, video, log_mel = build(feature_fusion=feature_fusion)
    out = model.apply({"params": params}, video, log_mel)
    pixels = tokens.normalise(tokens.pixels(tokens.tubelets(video, 2, 16)))
    of_video = levels(params, "encoder", pixels)
    of_audio = levels(params, "encoder_audio", tokens.audio_patches(log_mel, 16))
    fused = reference_objective.fuse(CONFIG, params["encoder_fusion"], of_video[-1], of_audio[-1])
    if feature_fusion:
        first = softmax_sum(np.asarray(params["video_layer_weights"]), of_video)
        second = softmax_sum(np.asarray(params["audio_layer_weights"]), of_audio)
    else:
        assert not {"video_layer_weights", "audio_layer_weights"} & params.keys()
        first, second = of_video[-1].mean(1), of_audio[-1].mean(1)
    feature = np.concatenate([first, second, *(np.asarray(x).mean(1) for x in fused)], -1)
    feature = reference_objective.norm(params["fc_norm"], feature)
    assert out.feature.shape == (4, 4 * 32)
    np.testing.assert_allclose(out.feature, feature, atol=1e-5)
    np.testing.assert_allclose(out.logits, reference_objective.dense(params["head"], feature), atol=1e-5)


@pytest.mark.parametrize("modality", ["video", "audio"])
def test_a_model_of_one_modality_ignores_the_other(modality):
    model, params, video, log_mel = build(modality=modality)
    encoder = {"video": "encoder", "audio": "encoder_audio"}[modality]
    assert params.keys() == {encoder, f"{modality}_layer_weights", "fc_norm", "head"}
    out = model.apply({"params": params}, video, log_mel)
    assert out.feature.shape == (4, 32)
    assert out.logits.shape == (4, 5)
    # The same encoder inside the audio-visual model gives the same weighted feature.
    whole, whole_params, *both = build()
    whole_params = whole_params | {name: params[name] for name in (encoder, f"{modality}_layer_weights")}
    del whole_params["fc_norm"]
    seen = {}

    def spy(next_fun, args, kwargs, context):
        if context.module.name == "fc_norm":
            seen["feature"] = args[0]
            return args[0]
        return next_fun(*args, **kwargs)

    with nn.intercept_methods(spy):
        whole.apply({"params": whole_params}, *both)
        expected = seen["feature"][:, :32] if modality == "video" else seen["feature"][:, 32:64]
        alone = model.apply({"params": params}, video, log_mel).feature
    np.testing.assert_allclose(alone, expected, atol=1e-5)


def test_a_missing_input_is_named():
    model, params, video, _ = build()
    with pytest.raises(ValueError, match="modality audio-visual needs audio"):
        model.apply({"params": params}, video, None)


def test_clips_of_another_geometry_are_refused():
    model, params, video, log_mel = build()
    with pytest.raises(ValueError, match=r"video has shape \(4, 4, 16, 32, 3\)"):
        model.apply({"params": params}, video[:, :, :16], log_mel)
    alone, params, _, log_mel = build(modality="audio")
    with pytest.raises(ValueError, match=r"log_mel has shape \(4, 16, 32\); this model takes \[B, 32, 32\]"):
        alone.apply({"params": params}, None, log_mel[:, :16])


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    x = jnp.ones((20_000, 2, 3))
    out = np.asarray(layers.drop_path(jax.random.key(0), x, 0.25))
    values = out.reshape(len(out), -1)
    assert set(np.unique(values).round(5)) == {0.0, np.float32(1 / 0.75).round(5)}
    assert (values == values[:, :1]).all()
    np.testing.assert_allclose(values.mean(), 1, atol=0.02)
    np.testing.assert_array_equal(layers.drop_path(jax.random.key(0), x, 0.0), x)
    # The survivors' factor is exact to the branch's own precision, not that of a rounded probability.
    half = layers.drop_path(jax.random.key(0), x.astype(jnp.bfloat16), jnp.float32(0.1))
    assert half.dtype == jnp.bfloat16
    assert half.max() == jnp.bfloat16(1 / 0.9)


@pytest.mark.parametrize("scan", [False, True])
def test_stochastic_depth_rises_within_each_stack_and_is_off_in_evaluation(scan, monkeypatch):
    config = tiny_model.model_config(fusion_depth=2)
    model, params, video, log_mel = build(config, ExecutionConfig(scan_encoders=scan), drop_path=0.3)
    plain = model.apply({"params": params}, video, log_mel)
    rates = []
    original = layers.drop_path
    monkeypatch.setattr(
        layers, "drop_path", lambda key, x, rate: (rates.append(rate), original(key, x, rate))[1]
    )
    model.apply({"params": params}, video, log_mel)
    assert rates == []
    rngs = {"drop_path": jax.random.key(1)}
    trained = model.apply({"params": params}, video, log_mel, deterministic=False, rngs=rngs)
    assert np.abs(trained.logits - plain.logits).max() > 1e-4
    if not scan:
        encoders, fusion = rates[: 2 * 3 * 2], rates[2 * 3 * 2 :]
        np.testing.assert_allclose(encoders, np.tile(np.repeat([0, 0.15, 0.3], 2), 2), atol=1e-6)
        np.testing.assert_allclose(fusion, np.repeat([0, 0.3], 6), atol=1e-6)
    again = model.apply({"params": params}, video, log_mel, deterministic=False, rngs=rngs)
    np.testing.assert_array_equal(again.logits, trained.logits)


def test_scanned_layers_get_the_rates_of_unrolled_ones(monkeypatch):
    """If each branch is multiplied by its keep probability, both forms give the same numbers in training."""
    monkeypatch.setattr(layers, "drop_path", lambda key, branch, rate: branch * (1 - rate))
    model, params, video, log_mel = build(drop_path=0.6)
    scanned = HiCMAEFinetune(CONFIG, model.finetune, SCANNED)
    choices = {"deterministic": False, "rngs": {"drop_path": jax.random.key(1)}}
    a = model.apply({"params": params}, video, log_mel, **choices)
    b = scanned.apply({"params": stack_layers(params)}, video, log_mel, **choices)
    assert np.abs(a.logits - model.apply({"params": params}, video, log_mel).logits).max() > 1e-3
    np.testing.assert_allclose(a.logits, b.logits, atol=1e-5)


@pytest.mark.parametrize("scan", [False, True])
def test_every_branch_of_every_layer_draws_its_own_samples(scan, monkeypatch):
    keys = []

    def note(data):
        keys.append(tuple(data.tolist()))
        return np.float32(0)

    def spy(key, branch, rate):
        # Not `jax.debug.callback`: Flax refuses what has an effect in a scan over layers.
        zero = jax.pure_callback(note, jax.ShapeDtypeStruct((), np.float32), jax.random.key_data(key))
        return branch + zero

    monkeypatch.setattr(layers, "drop_path", spy)
    model, params, video, log_mel = build(execution=ExecutionConfig(scan_encoders=scan))
    rngs = {"drop_path": jax.random.key(1)}
    model.apply({"params": params}, video, log_mel, deterministic=False, rngs=rngs)
    jax.effects_barrier()
    # Two encoders of three layers and two branches, one fusion layer each way with three branches.
    assert len(keys) == len(set(keys)) == 2 * 3 * 2 + 2 * 3


def test_recomputed_layers_drop_the_same_branches():
    """The gradient with scan, remat and stochastic depth equals that without remat."""
    plain, params, video, log_mel = build(execution=SCANNED, modality="video", drop_path=0.5)
    frugal = ExecutionConfig(scan_encoders=True, remat_encoder="full")

    def loss(params, execution):
        model = HiCMAEFinetune(CONFIG, plain.finetune, execution)
        rngs = {"drop_path": jax.random.key(2)}
        out = model.apply({"params": params}, video, log_mel, deterministic=False, rngs=rngs)
        return jnp.square(out.logits).sum()

    value, gradient = jax.value_and_grad(loss)(params, plain.execution)
    again, gradient_again = jax.value_and_grad(loss)(params, frugal)
    np.testing.assert_allclose(again, value, rtol=1e-6)
    assert_trees_close(gradient_again, gradient, 1e-5)


def test_scanned_and_unrolled_agree():
    model, params, video, log_mel = build()
    scanned = HiCMAEFinetune(CONFIG, model.finetune, SCANNED)
    a = model.apply({"params": params}, video, log_mel)
    b = scanned.apply({"params": stack_layers(params)}, video, log_mel)
    np.testing.assert_allclose(a.logits, b.logits, atol=1e-5)
