import json
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from hicmae_jax.preprocessing.mixing import (
    MixDraw,
    MixingConfig,
    draw_mix,
    draw_share,
    mix,
    mix_group,
    smooth,
)
from tests.goldens import finetune_recipe, recipe
from tests.support.golden_check import assert_agrees
from tests.support.paths import GOLDENS

CONFIG = json.loads(str(np.load(GOLDENS / "mixing.npz")["config"]))
CLIPS, CLASSES, SIZE = CONFIG["batch"], CONFIG["classes"], CONFIG["size"]
VIDEO = recipe.video(CONFIG["seed"], CLIPS, CONFIG["frames"], SIZE).astype(np.float32) / 255
LABELS = np.eye(CLASSES, dtype=np.float32)[finetune_recipe.labels(CONFIG["seed"] + 1, CLIPS, CLASSES)]
mixed = jax.jit(mix, static_argnames="config")


def test_published_mixing_and_boxes():
    assert_agrees("mixing")


def drawn(count=2_000, **choices):
    keys = jax.random.split(jax.random.key(5), count)
    draws = jax.jit(jax.vmap(lambda key: draw_mix(key, 160, 160, MixingConfig(**choices))))(keys)
    return [np.asarray(part) for part in draws]


def test_half_is_cutmix_with_the_published_shares():
    cutmix, share, centre = drawn(6_000)
    assert cutmix.mean() == pytest.approx(0.5, abs=0.025)
    # U(0, 1) has variance 1 / 12, Beta(0.8, 0.8) has 1 / (4 · 2.6).
    for kind, variance in ((True, 1 / 12), (False, 1 / 10.4)):
        of_kind = share[cutmix == kind]
        assert of_kind.mean() == pytest.approx(0.5, abs=0.025)
        assert of_kind.var() == pytest.approx(variance, rel=0.06)
    counts = np.stack([np.bincount(side, minlength=160) for side in centre.T])
    assert counts.shape == (2, 160)
    assert np.abs(counts - 37.5).max() < 4.5 * np.sqrt(37.5)
    assert np.abs(np.corrcoef([cutmix, share, *centre.T]) - np.eye(4)).max() < 0.06


@pytest.mark.parametrize("alpha", [0.05, 0.8, 1.0, 2.0])
def test_shares_have_the_beta_distribution(alpha):
    keys = jax.random.split(jax.random.key(8), 4_000)
    shares = np.asarray(jax.jit(jax.vmap(partial(draw_share, alpha=alpha)))(keys), np.float64)
    assert ((shares >= 0) & (shares <= 1)).all()
    # float32 rounds shares near 1 to 1, and a small α has many of these.
    below = shares[shares < 0.99]
    assert len(below) / len(shares) == pytest.approx(stats.beta.cdf(0.99, alpha, alpha), abs=0.035)
    expected = stats.beta.cdf(below, alpha, alpha) / stats.beta.cdf(0.99, alpha, alpha)
    assert stats.kstest(expected, "uniform").pvalue > 1e-3


@pytest.mark.parametrize(
    ("choices", "cutmix_share"), [({"mixup": 0.0}, 1), ({"cutmix": 0.0}, 0), ({"switch": 0.2}, 0.2)]
)
def test_the_switch_is_between_what_there_is(choices, cutmix_share):
    cutmix, share, _ = drawn(**choices)
    assert cutmix.mean() == pytest.approx(cutmix_share, abs=0.04)
    assert np.isfinite(share).all()
    assert share.min() >= 0
    assert share.max() <= 1


def test_a_group_that_is_not_mixed_stays():
    _, share, _ = drawn(probability=0.3)
    assert (share == 1).mean() == pytest.approx(0.7, abs=0.045)
    # Its box is empty, also at the border.
    for cutmix in (True, False):
        draw = MixDraw(jnp.bool_(cutmix), jnp.float32(1), jnp.array([0, SIZE - 1]))
        video, targets = mix_group(VIDEO, jnp.array(LABELS), draw)
        np.testing.assert_array_equal(video, VIDEO)
        np.testing.assert_array_equal(targets, LABELS)


@pytest.mark.parametrize("choices", [{"probability": 0.0}, {"mixup": 0.0, "cutmix": 0.0}])
def test_without_mixing_labels_are_smoothed_only(choices):
    video, targets = mixed(VIDEO, LABELS, jax.random.key(0), MixingConfig(**choices))
    np.testing.assert_array_equal(video, VIDEO)
    np.testing.assert_allclose(targets, LABELS * 0.9 + 0.1 / CLASSES, atol=1e-7)


def test_one_draw_mixes_the_whole_batch_with_its_reverse():
    for seed in range(4):
        key, config = jax.random.key(seed), MixingConfig()
        video, targets = mixed(VIDEO, LABELS, key, config)
        draw = draw_mix(jax.random.split(key, 1)[0], SIZE, SIZE, config)
        expected = mix_group(VIDEO, smooth(jnp.array(LABELS), 0.1), draw)
        np.testing.assert_allclose(video, expected[0], atol=1e-6)
        np.testing.assert_allclose(targets, expected[1], atol=1e-6)
        np.testing.assert_allclose(targets.sum(-1), 1, atol=1e-6)


def test_groups_have_draws_and_partners_of_their_own():
    # Every pixel of clip i is i, and so is its label: what is mixed in tells the partner and its share.
    numbers = jnp.arange(12.0)
    video = jnp.broadcast_to(numbers[:, None, None, None, None], (12, 2, 8, 8, 3))
    config = MixingConfig(cutmix=0.0, smoothing=0.0, group=4)
    blended, targets = mixed(video, jnp.eye(12), jax.random.key(1), config)
    partner = jnp.array([3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8])
    share = targets[jnp.arange(12), jnp.arange(12)]
    np.testing.assert_allclose(targets[jnp.arange(12), partner], 1 - share, atol=1e-6)
    expected = share * numbers + (1 - share) * partner
    np.testing.assert_allclose(
        blended, jnp.broadcast_to(expected[:, None, None, None, None], video.shape), atol=1e-5
    )
    shares = np.asarray(share).reshape(3, 4)
    np.testing.assert_allclose(shares, shares[:, :1].repeat(4, 1), atol=1e-6)
    assert len(np.unique(shares[:, 0].round(3))) == 3


def test_precision_follows_the_video_and_bytes_become_pixels():
    config, key = MixingConfig(), jax.random.key(2)
    exact, targets = mixed(VIDEO, LABELS, key, config)
    half, half_targets = mixed(VIDEO.astype(jnp.bfloat16), LABELS, key, config)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), exact, atol=0.006)
    np.testing.assert_array_equal(half_targets, targets)
    of_bytes, _ = mixed((VIDEO * 255).round().astype(np.uint8), LABELS, key, config)
    assert of_bytes.dtype == jnp.float32
    np.testing.assert_allclose(of_bytes, exact, atol=1e-6)


@pytest.mark.parametrize("group", [None, 4])
def test_a_batch_over_many_devices_is_mixed_alike(group):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.NamedSharding(mesh, jax.P("data"))
    video = recipe.video(3, 16, 2, 16).astype(np.float32) / 255
    labels = np.eye(16, dtype=np.float32)
    config = MixingConfig(group=group)
    step = jax.jit(partial(mix, config=config), out_shardings=rows)
    text = step.lower(*jax.device_put((video, labels), rows), jax.random.key(0)).compile().as_text()
    # The clips and the labels move once, and no device holds the whole batch.
    assert re.findall(r" (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)\(", text) == (
        2 * ["collective-permute"]
    )
    for seed in range(3):
        key = jax.random.key(seed)
        alone = mixed(video, labels, key, config)
        spread = step(*jax.device_put((video, labels), rows), key)
        assert spread[0].sharding.is_equivalent_to(rows, 5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), alone, spread)


def test_a_batch_of_broken_groups_and_wrong_choices_are_refused():
    with pytest.raises(ValueError, match="a batch of 4 clips is not made of mixing groups of 3"):
        mix(VIDEO, LABELS, jax.random.key(0), MixingConfig(group=3))
    with pytest.raises(ValueError, match=r"smoothing 1\.0 is not in \[0, 1\)"):
        MixingConfig(smoothing=1.0)
