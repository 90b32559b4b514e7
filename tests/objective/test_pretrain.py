"""Tokens, targets and losses against plain NumPy, and the sums of the objective."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hicmae_jax.model import tokens
from hicmae_jax.model.hicmae import PretrainOutput
from hicmae_jax.objective import losses, targets
from hicmae_jax.objective import pretrain as objective
from hicmae_jax.objective.config import LossConfig
from tests.support.trees import assert_trees_close

RNG = np.random.default_rng(0)


def test_tubelets_order_and_inverse():
    video = RNG.integers(0, 256, (2, 4, 32, 48, 3), np.uint8)
    cut = np.asarray(tokens.tubelets(jnp.asarray(video), 2, 16))
    assert cut.shape == (2, 2 * 2 * 3, 1536)
    t, h, w = 1, 0, 2
    expected = video[1, 2 * t : 2 * t + 2, 16 * h : 16 * h + 16, 16 * w : 16 * w + 16]
    np.testing.assert_array_equal(cut[1, (t * 2 + h) * 3 + w].reshape(2, 16, 16, 3), expected)
    np.testing.assert_array_equal(tokens.from_tubelets(cut, 2, 16, 32, 48), video)


def test_audio_patches_order_and_inverse():
    log_mel = RNG.standard_normal((2, 64, 32))
    cut = np.asarray(tokens.audio_patches(jnp.asarray(log_mel), 16))
    np.testing.assert_array_equal(cut[1, 3].reshape(16, 16), np.float32(log_mel[1, 16:32, 16:32]))
    np.testing.assert_array_equal(tokens.from_audio_patches(cut, 16, 32), np.float32(log_mel))


def test_positions_are_sines_on_even_channels_and_cosines_on_odd():
    table = tokens.sinusoidal_positions(800, 6)
    assert table.dtype == np.float32
    np.testing.assert_allclose(table[7, :2], [np.sin(7), np.cos(7)], rtol=1e-6)
    angle = 7 / 10000 ** (4 / 6)
    np.testing.assert_allclose(table[7, 4:], [np.sin(angle), np.cos(angle)], rtol=1e-6)


def test_each_channel_is_normalised_by_its_own_statistics():
    values = np.tile(np.float32([0.485, 0.456, 0.406]) + np.float32([0.229, 0, 0.45]), 4)
    np.testing.assert_allclose(tokens.normalise(jnp.asarray(values)), np.tile([1, 0, 2], 4), atol=1e-6)


@pytest.mark.parametrize("frame_difference", [True, False])
def test_video_targets(frame_difference):
    pixels = RNG.random((2, 3, 1536))
    actual = targets.video_targets(jnp.asarray(pixels), 2, frame_difference)
    x = pixels.reshape(2, 3, 512, 3)
    x = (x - x.mean(2, keepdims=True)) / (x.std(2, ddof=1, keepdims=True) + 1e-6)
    x = x.reshape(2, 3, 2, 768)
    if frame_difference:
        x = np.stack([x[:, :, 0], x[:, :, 1] - x[:, :, 0]], 2)
    np.testing.assert_allclose(actual, x.reshape(2, 3, 1536), atol=1e-5)


@pytest.mark.parametrize("frame_difference", [True, False])
@pytest.mark.parametrize("tubelet", [1, 2, 4])
def test_video_targets_of_bytes(tubelet, frame_difference):
    # Patches of all values, of few neighbouring values, and with one that differs.
    pixels = RNG.integers(0, 256, (1, 8, 1536), np.uint8)
    pixels[:, 2:4] = RNG.integers(199, 201, (1, 2, 1536))
    pixels[:, 4] = 255
    pixels[:, 4, 700] = 254
    pixels[:, 5] = 0
    x = pixels.reshape(1, 8, 512, 3).astype(np.float64) / 255
    x = (x - x.mean(2, keepdims=True)) / (x.std(2, ddof=1, keepdims=True) + 1e-6)
    x = x.reshape(1, 8, tubelet, -1)
    if frame_difference:
        x = np.concatenate([x[:, :, :1], np.diff(x, axis=2)], 2)
    actual = jax.jit(targets.video_targets, static_argnums=(1, 2))(pixels, tubelet, frame_difference)
    assert actual.dtype == jnp.float32
    np.testing.assert_allclose(actual, x.reshape(1, 8, 1536), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(actual[:, 5], 0)


def test_flat_patches_give_zero_targets_in_float32():
    video = targets.video_targets(jnp.full((1, 2, 1536), 0.3, jnp.bfloat16), 2)
    audio = targets.audio_targets(jnp.full((1, 2, 256), 0.467, jnp.bfloat16))
    for target in (video, audio):
        assert target.dtype == jnp.float32
        assert not np.any(target)


def test_flat_patches_give_zero_targets_whatever_their_value():
    """The rounding error of a mean of equal values must not appear in the targets."""
    assert not np.any(jax.jit(video_targets_of)(jnp.arange(256, dtype=jnp.uint8)[None, :, None]))
    values = jnp.linspace(0, 1, 50, dtype=jnp.float32)[None, :, None]
    for made in (audio_targets_of, video_targets_of):
        assert not np.any(jax.jit(made)(values))


def audio_targets_of(values):
    return targets.audio_targets(jnp.tile(values, (1, 1, 256)))


def video_targets_of(values):
    return targets.video_targets(jnp.tile(values, (1, 1, 1536)), 2)


def test_audio_targets():
    x = RNG.standard_normal((2, 5, 256))
    expected = (x - x.mean(-1, keepdims=True)) / (x.std(-1, ddof=1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(targets.audio_targets(jnp.asarray(x)), expected, atol=1e-5)


def numpy_info_nce(video, audio, temperature):
    v = video / np.linalg.norm(video, axis=1, keepdims=True)
    a = audio / np.linalg.norm(audio, axis=1, keepdims=True)
    logits = v @ a.T / temperature
    total = 0.0
    for rows in (logits, logits.T):
        for i, row in enumerate(rows):
            total -= 0.5 * (row[i] - np.log(np.exp(row).sum()))
    return total / len(video)


def test_info_nce_whole_batch_and_groups():
    video, audio = RNG.standard_normal((2, 12, 5))
    whole = losses.info_nce_reference(jnp.asarray(video), jnp.asarray(audio), 0.07)
    np.testing.assert_allclose(whole, numpy_info_nce(video, audio, 0.07), rtol=1e-5)
    grouped = losses.info_nce_reference(jnp.asarray(video), jnp.asarray(audio), 0.07, group_size=4)
    parts = [numpy_info_nce(video[i : i + 4], audio[i : i + 4], 0.07) for i in (0, 4, 8)]
    np.testing.assert_allclose(grouped, np.mean(parts), rtol=1e-5)
    assert float(grouped) < float(whole), "fewer negatives are easier"


def test_groups_must_divide_the_batch():
    with pytest.raises(ValueError, match="batch 12 is not a multiple of the negatives' group of 5"):
        losses.info_nce_reference(jnp.ones((12, 3)), jnp.ones((12, 3)), 0.07, group_size=5)


def test_info_nce_of_zero_features_has_finite_gradients():
    gradient = jax.grad(lambda v: losses.info_nce_reference(v, jnp.ones((4, 3)), 0.07))(jnp.zeros((4, 3)))
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(("count", "weight"), [(1, 0.5), (3, 0.0025), (0, 0.5)])
def test_the_total_is_the_weighted_sum_of_the_terms(count, weight):
    video, audio = RNG.standard_normal((2, count, 4, 5)).astype(np.float32)
    prediction, target = RNG.standard_normal((2, 4, 7, 6)).astype(np.float32)
    output = PretrainOutput(
        jnp.asarray(prediction), jnp.asarray(2 * prediction), tuple(map(jnp.asarray, video)), tuple(audio)
    )
    terms = objective.loss_terms(
        output,
        jnp.asarray(target),
        jnp.asarray(target),
        LossConfig(contrastive_weight=weight, negatives="global"),
    )
    expected = {
        "video": np.mean((prediction - target) ** 2),
        "audio": np.mean((2 * prediction - target) ** 2),
        "contrastive_levels": np.array([numpy_info_nce(v, a, 0.07) for v, a in zip(video, audio)]),
    }
    expected["contrastive"] = expected["contrastive_levels"].sum()
    expected["total"] = expected["video"] + expected["audio"] + weight * expected["contrastive"]
    assert terms["contrastive_levels"].shape == (count,)
    assert terms.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(terms[name], expected[name], rtol=1e-5)


def test_gradients_of_grouped_negatives_stay_in_the_group():
    video, audio = (jnp.asarray(x) for x in RNG.standard_normal((2, 6, 5)))

    def first_group_only(video):
        return losses.info_nce_reference(video, audio.at[3:].set(0.5), 0.07, group_size=3)

    changed = jax.grad(first_group_only)(video)
    plain = jax.grad(lambda video: losses.info_nce_reference(video, audio, 0.07, group_size=3))(video)
    assert_trees_close({"first": changed[:3]}, {"first": plain[:3]}, 1e-6)
    assert np.abs(changed[3:] - plain[3:]).max() > 1e-3
