"""Alignment, uniformity and effective rank against their definitions, and a collapse that is noted once."""

import types

import numpy as np
import pytest

from hicmae_jax.evaluation import geometry
from hicmae_jax.evaluation.geometry import Geometry, alignment, effective_rank, uniformity


def noise(clips=20, width=6, seed=0):
    return np.random.default_rng(seed).standard_normal((clips, width)).astype(np.float32)


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_alignment_is_the_mean_squared_distance_of_pairs():
    video, audio = noise(seed=0), noise(seed=1)
    by_hand = [float(((a - b) ** 2).sum()) for a, b in zip(unit(video), unit(audio), strict=True)]
    assert alignment(video, audio) == pytest.approx(np.mean(by_hand), rel=1e-6)
    assert alignment(video, 3 * video) == pytest.approx(0, abs=1e-12)
    assert alignment(video, -video) == pytest.approx(4)


def test_uniformity_is_the_log_of_the_mean_over_pairs():
    x = unit(noise())
    pairs = [np.exp(-2 * ((x[i] - x[j]) ** 2).sum()) for i in range(20) for j in range(i)]
    assert uniformity(5 * x) == pytest.approx(np.log(np.mean(pairs)), rel=1e-5)
    assert uniformity(np.ones((4, 3))) == pytest.approx(0, abs=1e-12)
    assert uniformity(np.eye(4)) == pytest.approx(-4)
    assert np.isnan(uniformity(np.ones((1, 3))))


def test_effective_rank_counts_the_directions():
    assert effective_rank(np.eye(5)) == pytest.approx(5)
    assert effective_rank(np.outer(np.arange(1, 8), np.arange(1, 4))) == pytest.approx(1)
    assert effective_rank(np.zeros((3, 3))) == 0
    # Singular values 3 and 1.
    by_hand = np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))
    rotation = np.linalg.qr(noise(2, 2))[0]
    assert effective_rank(np.diag([3.0, 1.0]) @ rotation) == pytest.approx(by_hand, rel=1e-6)


def test_effective_rank_agrees_with_the_eigenvalues_of_the_gram_matrix():
    x = noise().astype(np.float64)
    values = np.sqrt(np.linalg.eigvalsh(x.T @ x))
    shares = values / values.sum()
    assert effective_rank(x) == pytest.approx(np.prod(shares**-shares))


def test_all_clips_alike_have_rank_one_in_spite_of_rounding():
    assert effective_rank(np.float32(0.1) * np.ones((64, 32), np.float32) + 1e-7 * noise(64, 32)) < 1.01


def test_scores_are_named_by_layer_and_modality():
    features = {2: (noise(seed=0), noise(seed=1)), 4: (noise(seed=2), noise(seed=3))}
    scores = geometry.geometry(features)
    assert len(scores) == 10
    assert scores["alignment/layer_4"] == alignment(*features[4])
    assert scores["uniformity_audio/layer_2"] == uniformity(features[2][1])
    assert scores["rank_video/layer_4"] == effective_rank(features[4][0])


@pytest.mark.parametrize(("clips", "times"), [(20, 1), (geometry.FEWEST_CLIPS - 1, 0)])
def test_a_collapse_is_noted_once(clips, times):
    held_out = types.SimpleNamespace(features={1: (noise(clips), noise(clips, seed=1))})
    lines = []
    score = Geometry(held_out, lines.append)
    score(None)
    assert lines == []
    held_out.features = {1: (noise(clips), np.ones((clips, 6)))}
    assert score(None)["rank_audio/layer_1"] == pytest.approx(1)
    score(None)
    assert len(lines) == times
    assert all("collapsed" in line and "rank_audio/layer_1 1.00" in line for line in lines)
    assert not any("rank_video" in line for line in lines)
