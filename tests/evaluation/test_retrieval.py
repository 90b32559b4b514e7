"""Recall@k: known results, ties at chance, coverage of the intervals."""

import numpy as np
import pytest

from hicmae_jax.evaluation.retrieval import DIRECTIONS, hits, retrieval


def noise(clips=40, width=64, seed=0):
    return np.random.default_rng(seed).standard_normal((clips, width)).astype(np.float32)


def test_perfect_features_find_every_partner():
    features = noise()
    scores = retrieval(features, 3 * features)  # a cosine: length does not matter
    for direction in DIRECTIONS:
        for k in (1, 5, 10):
            assert scores[direction][k] == (1.0, 1.0, 1.0, k / 40)


def test_each_direction_has_its_own_recall():
    """Videos 1 and 2 are most similar to audio 0; audio 0 is most similar to video 2."""
    similarity = np.array([[0.9, 0.1, 0.0], [0.95, 0.8, 0.0], [0.97, 0.2, 0.7]])
    np.testing.assert_array_equal(hits(similarity, 1), [1, 0, 0])
    np.testing.assert_array_equal(hits(similarity, 2), [1, 1, 1])
    np.testing.assert_array_equal(hits(similarity.T, 1), [0, 1, 1])
    np.testing.assert_array_equal(hits(similarity.T, 2), [0, 1, 1])
    # As features: cosines of unit vectors.
    video, audio = noise(), noise(seed=1)
    swapped = retrieval(audio, video)
    scores = retrieval(video, audio)
    for k in (1, 5, 10):
        assert scores["video to audio"][k] == swapped["audio to video"][k]
        both = scores["video to audio"][k].recall + scores["audio to video"][k].recall
        assert scores["mean"][k].recall == pytest.approx(both / 2)


@pytest.mark.parametrize(
    "features", [np.ones((40, 64), np.float32), np.zeros((40, 64)), noise(1).repeat(40, 0)]
)
def test_a_constant_embedding_scores_chance(features):
    scores = retrieval(features, features)
    for direction in DIRECTIONS:
        for k in (1, 5, 10):
            assert scores[direction][k].recall == pytest.approx(k / 40)
            assert scores[direction][k].chance == k / 40


def test_ties_across_the_kth_place_count_in_part():
    similarity = np.array([[0.5, 0.5, 0.9, 0.1]] * 4)
    np.testing.assert_allclose(hits(similarity, 1), [0, 0, 1, 0])
    np.testing.assert_allclose(hits(similarity, 2), [0.5, 0.5, 1, 0])
    np.testing.assert_allclose(hits(similarity, 3), [1, 1, 1, 0])


def test_nearly_equal_features_are_ranked():
    """Features of a collapsed encoder differ in their fifth digit, which float32 holds: no tie."""
    features = 1 + 1e-4 * noise()
    assert retrieval(features, features)["mean"][1].recall == 1


def test_random_features_score_about_chance_and_the_interval_covers_it():
    covered = 0
    for seed in range(40):
        score = retrieval(noise(60, 32, seed), noise(60, 32, 1000 + seed))["mean"][5]
        assert score.low <= score.recall <= score.high
        covered += score.low <= score.chance <= score.high
    assert covered >= 34  # 38 expected of a 95 % interval


def test_scores_are_the_same_for_the_same_seed_only():
    video, audio = noise(), noise() + 3 * noise(seed=1)
    one, same, other = (retrieval(video, audio, seed=seed) for seed in (0, 0, 1))
    assert one == same
    assert one != other
    assert one["mean"][5].recall == other["mean"][5].recall


def test_more_candidates_than_clips_find_everything():
    assert retrieval(noise(4), noise(4, seed=1), ks=(10,))["mean"][10] == (1, 1, 1, 1)


def test_features_that_are_not_finite_are_refused():
    features = noise()
    features[3, 2] = np.nan
    with pytest.raises(ValueError, match="audio features of 1 of 40 clips are not finite"):
        retrieval(noise(), features)
    with pytest.raises(ValueError, match="no clip"):
        retrieval(noise(0), noise(0))
