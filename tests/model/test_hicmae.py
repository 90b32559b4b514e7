"""The pre-training model against a plain reference, under every switch, precision and execution choice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from hicmae_jax.model.config import ExecutionConfig
from hicmae_jax.model.hicmae import HiCMAE
from hicmae_jax.objective.config import LossConfig
from hicmae_jax.objective.pretrain import pretrain_loss
from hicmae_jax.weights.torch_names import stack_layers
from tests.support import golden_cases, golden_jax, model_switches, reference_objective, tiny_model
from tests.support.paths import GOLDENS
from tests.support.trees import assert_trees_close

LOSS = LossConfig(negatives="global")


def value_and_grad(model, objective, params, inputs, execution=ExecutionConfig()):
    """Without jit: the switches share nearly all operations, so that few compile more than once."""
    function = jax.value_and_grad(pretrain_loss, argnums=1, has_aux=True)
    (total, terms), gradient = function(HiCMAE(model, execution), params, inputs, objective)
    return total, terms, gradient


@pytest.mark.parametrize("switches", model_switches.COMBINATIONS, ids="; ".join)
def test_loss_and_gradients_equal_those_of_the_reference(switches):
    model, objective, masks = model_switches.configs(*switches)
    inputs, params = tiny_model.inputs(model, masks), tiny_model.parameters(model, masks=masks)
    total, _, gradient = value_and_grad(model, objective, params, inputs)
    expected, expected_gradient = jax.value_and_grad(reference_objective.loss, argnums=2)(
        model, objective, params, *inputs
    )
    assert np.isfinite(total)
    np.testing.assert_allclose(total, expected, rtol=1e-5)
    assert_trees_close(gradient, expected_gradient, 1e-4)


def test_the_encoder_sees_visible_tokens_only():
    model = tiny_model.model_config()
    video, log_mel, video_mask, audio_mask = tiny_model.inputs(model)
    params = tiny_model.parameters(model)
    apply = HiCMAE(model).apply
    before = apply({"params": params}, video, log_mel, video_mask, audio_mask)
    # Scramble exactly the pixels and bins of masked tokens.
    pixel_mask = np.zeros((4, model.video_tokens), bool)
    np.put_along_axis(pixel_mask, np.asarray(video_mask.masked), True, 1)
    pixel_mask = pixel_mask.reshape(4, 2, 2, 2).repeat(2, 1).repeat(16, 2).repeat(16, 3)[..., None]
    bin_mask = np.zeros((4, model.audio_tokens), bool)
    np.put_along_axis(bin_mask, np.asarray(audio_mask.masked), True, 1)
    bin_mask = bin_mask.reshape(4, 2, 2).repeat(16, 1).repeat(16, 2)
    video = jnp.where(pixel_mask, 255 - video, video)
    log_mel = jnp.where(bin_mask, -log_mel, log_mel)
    after = apply({"params": params}, video, log_mel, video_mask, audio_mask)
    jax.tree.map(np.testing.assert_array_equal, before, after)


@pytest.fixture(scope="module")
def plain():
    """(model, parameters, inputs, loss, gradient) of unrolled encoders without remat."""
    model = tiny_model.model_config()
    inputs, params = tiny_model.inputs(model), tiny_model.parameters(model)
    total, _, gradient = value_and_grad(model, LOSS, params, inputs)
    return model, params, inputs, total, gradient


@pytest.mark.parametrize(
    "choices",
    [
        {"remat_encoder": "full", "remat_fusion": "dots", "remat_decoder": "full"},
        {"remat_encoder": "dots", "remat_fusion": "full", "remat_decoder": "dots"},
    ],
)
def test_remat_changes_neither_loss_nor_gradients(choices, plain):
    model, params, inputs, total, gradient = plain
    again, _, gradient_again = value_and_grad(model, LOSS, params, inputs, ExecutionConfig(**choices))
    np.testing.assert_allclose(again, total, rtol=1e-6)
    assert_trees_close(gradient_again, gradient, 1e-5)


@pytest.mark.parametrize("remat", ["none", "full"])
def test_scanned_encoders_equal_unrolled_ones(remat, plain):
    model, params, inputs, total, gradient = plain
    scanned = ExecutionConfig(scan_encoders=True, remat_encoder=remat)
    again, _, gradient_again = value_and_grad(model, LOSS, stack_layers(params), inputs, scanned)
    np.testing.assert_allclose(again, total, rtol=1e-6)
    assert_trees_close(gradient_again, stack_layers(gradient), 1e-5)


def test_bfloat16_keeps_float32_parameters_and_is_within_one_percent():
    """Of the micro golden's numbers, which are the published implementation's in float32."""
    golden = golden_cases.load(GOLDENS / "pretrain_micro.npz")
    model = HiCMAE(golden.model_config(), ExecutionConfig(dtype="bfloat16", scan_encoders=True))
    inputs = golden_jax.pretrain_inputs(golden)
    shapes = jax.eval_shape(model.init, jax.random.key(0), *inputs)["params"]
    params, _ = golden_jax.recipe_weights(golden, shapes)
    compiled = jax.jit(jax.value_and_grad(pretrain_loss, argnums=1, has_aux=True), static_argnums=(0, 3))
    (total, terms), gradient = compiled(model, params, inputs, golden.loss_config())
    assert total.dtype == jnp.float32
    for name in ("total", "video", "audio"):
        expected = golden.arrays["loss" if name == "total" else f"loss_{name}"]
        np.testing.assert_allclose(terms[name], expected, rtol=0.01)
        assert abs(terms[name] - expected) > 1e-6, "bfloat16 was not used"
    np.testing.assert_allclose(terms["contrastive_levels"], golden.arrays["loss_contrastive"], rtol=0.01)
    norm = np.sqrt(sum(np.square(leaf, dtype=np.float64).sum() for leaf in jax.tree.leaves(gradient)))
    np.testing.assert_allclose(norm, golden.arrays["grad_norm"], rtol=0.02)
    for path, leaf in flatten_dict(gradient, sep="/").items():
        assert leaf.dtype == jnp.float32, path
        assert np.isfinite(leaf).all(), path
        assert np.abs(leaf).max() > 0, path


def test_clips_and_masks_of_another_geometry_are_refused():
    model = tiny_model.model_config(audio_bins=48)
    video, log_mel, video_mask, audio_mask = tiny_model.inputs(model)

    def shapes(*inputs):
        return jax.eval_shape(HiCMAE(model).init, jax.random.key(0), *inputs)

    with pytest.raises(
        ValueError, match=r"video has shape \(4, 4, 48, 48, 3\); .* takes \[B, 4, 32, 32, 3\]"
    ):
        shapes(jnp.zeros((4, 4, 48, 48, 3)), log_mel, video_mask, audio_mask)
    with pytest.raises(ValueError, match=r"log_mel has shape \(4, 48, 32\); .* takes \[B, 32, 48\]"):
        shapes(video, log_mel.swapaxes(1, 2), video_mask, audio_mask)
    with pytest.raises(TypeError, match="video is int32; give uint8, or floats"):
        shapes(video.astype(jnp.int32), log_mel, video_mask, audio_mask)
    with pytest.raises(ValueError, match="the audio mask has 4 visible and 4 masked tokens; a clip has 6"):
        shapes(video, log_mel, video_mask, video_mask)
    nothing = video_mask._replace(visible=video_mask.visible[:, :0])
    with pytest.raises(ValueError, match="the video mask has 0 visible"):
        shapes(video, log_mel, nothing, audio_mask)


def test_a_video_of_floats_gives_the_output_of_its_bytes():
    model = tiny_model.model_config()
    video, *rest = tiny_model.inputs(model)
    params = {"params": tiny_model.parameters(model)}
    apply = HiCMAE(model).apply
    of_bytes, of_floats = apply(params, video, *rest), apply(params, video / 255.0, *rest)
    for a, b in zip(jax.tree.leaves(of_bytes), jax.tree.leaves(of_floats)):
        np.testing.assert_allclose(a, b, atol=1e-6)
