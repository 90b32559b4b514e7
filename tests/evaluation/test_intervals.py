"""Bootstrap over speakers: coverage, whole units, determinism, fast paths, no interval without two units."""

import numpy as np
import pytest

from hicmae_jax.evaluation.emotion_metrics import class_scores, recalls
from hicmae_jax.evaluation.intervals import (
    Resampling,
    class_differences,
    class_intervals,
    recall_intervals,
    regression_intervals,
)
from hicmae_jax.evaluation.regression_metrics import regression_scores
from tests.goldens import finetune_recipe

SPEAKERS = 12


def case(seed=0, count=120, classes=4):
    true = finetune_recipe.skewed_labels(seed, count, classes)
    logits = finetune_recipe.logits(seed + 1, true, classes)[0]
    units = [f"speaker {i % SPEAKERS}" for i in range(count)]
    return true, logits, units


def interval(metric, units, level=0.95, **choices):
    """Interval of any score of clips, which calls the metric for each draw."""
    resampling = Resampling(units, **({"draws": 1000, "seed": 0} | choices))
    return resampling.interval([metric(clips) for clips in resampling.clips()], level)


def test_whole_units_are_drawn():
    units = np.array(["b", "a", "b", "c", "c", "c"])
    for clips in Resampling(units, draws=50).clips():
        counts = np.bincount(clips, minlength=len(units))
        for unit in "abc":
            assert len(set(counts[units == unit])) == 1
        assert sum(counts[[1, 0, 3]]) == 3  # as many units as there are


def test_draws_are_those_of_the_seed():
    # Frozen: the raw bits of Philox are the same in every version of NumPy.
    counts = Resampling(["a", "b", "c", "d"], draws=3, seed=5).counts
    np.testing.assert_array_equal(counts, [[1, 1, 1, 1], [0, 1, 1, 2], [1, 2, 0, 1]])
    assert (Resampling(["a", "b", "c", "d"], draws=3, seed=6).counts != counts).any()


def test_every_unit_is_equally_likely():
    counts = Resampling([str(i) for i in range(7)], draws=20_000).counts
    np.testing.assert_allclose(counts.mean(0), 1, atol=0.04)
    np.testing.assert_allclose(counts.var(0), 6 / 7, atol=0.05)


def test_the_interval_of_a_mean_covers_it():
    """Speakers differ more than clips of a speaker, so intervals over clips would cover much less."""
    covered = {"speakers": 0, "clips": 0}
    for trial in range(100):
        rng = np.random.RandomState(trial)
        of_speaker = rng.standard_normal(40)
        values = np.repeat(of_speaker, 10) + 0.5 * rng.standard_normal(400)
        for name, units in (("speakers", np.arange(400) // 10), ("clips", np.arange(400))):
            found = interval(lambda clips, v=values: v[clips].mean(), units.astype(str), draws=200)
            covered[name] += found.low <= 0 <= found.high
    assert 88 <= covered["speakers"] <= 100
    assert covered["clips"] < 60


def test_the_width_is_that_of_the_standard_error():
    values = np.random.RandomState(0).standard_normal(300)
    found = interval(lambda clips: values[clips].mean(), [str(i) for i in range(300)], draws=4000)
    error = values.std() / np.sqrt(300)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.05)
    narrow = interval(lambda clips: values[clips].mean(), [str(i) for i in range(300)], draws=4000, level=0.5)
    assert narrow.high - narrow.low == pytest.approx(2 * 0.674 * error, rel=0.08)


def test_class_intervals_agree_with_the_general_way():
    true, logits, units = case()
    fast = class_intervals(true, logits, units, draws=40, seed=3)
    for name, found in fast.items():
        slow = interval(
            lambda clips, name=name: class_scores(true[clips], logits[clips])[name], units, draws=40, seed=3
        )
        assert found.units == slow.units == SPEAKERS
        np.testing.assert_allclose(found[:2], slow[:2], rtol=1e-12, err_msg=name)
        score = class_scores(true, logits)[name]
        assert found.low < score < found.high


def test_recall_intervals_agree_with_the_general_way():
    true, logits, units = case()
    found = recall_intervals(true, logits, units, draws=40)
    hit = logits.argmax(1) == true
    for k, of_class in enumerate(found):
        slow = interval(lambda clips, k=k: 100 * hit[clips][true[clips] == k].mean(), units, draws=40)
        np.testing.assert_allclose(of_class[:2], slow[:2])


def test_regression_intervals_hold_every_score():
    true = finetune_recipe.dimensions(0, 200, 2)
    predicted, names = finetune_recipe.predictions(1, true), ["arousal", "valence"]
    units = [f"speaker {i % SPEAKERS}" for i in range(200)]
    found = regression_intervals(true, predicted, names, units, draws=50)
    scores = regression_scores(true, predicted, names)
    assert list(found) == list(scores)
    for name, score in scores.items():
        assert found[name].low < score < found[name].high


def test_a_difference_is_paired():
    true, logits, units = case(count=600)
    noise = np.random.RandomState(9).standard_normal(logits.shape)
    better, worse = logits, logits + 0.8 * noise
    found = class_differences(true, better, worse, units)["WAR"]
    one, other = (100 * (x.argmax(1) == true) for x in (better, worse))
    slow = interval(lambda c: one[c].mean() - other[c].mean(), units)
    np.testing.assert_allclose(found[:2], slow[:2])
    assert found.low < one.mean() - other.mean() < found.high
    alone = class_intervals(true, better, units)["WAR"]
    assert found.high - found.low < alone.high - alone.low
    same = class_differences(true, better, better, units)["UAR"]
    assert same[:2] == (0, 0)


@pytest.mark.parametrize(
    ("units", "number", "note"),
    [(["a"] * 120, 1, "one speaker or session only"), ([""] * 120, 0, "are unknown")],
)
def test_without_two_units_there_is_no_interval(units, number, note):
    true, logits, _ = case()
    targets = np.random.RandomState(0).rand(120, 1)
    for found in (
        *regression_intervals(targets, 1 - targets, ["valence"], units).values(),
        interval(lambda clips: 1.0, units),
        *class_intervals(true, logits, units).values(),
        *class_differences(true, logits, logits, units).values(),
        *recall_intervals(true, logits, units),
    ):
        assert np.isnan(found.low)
        assert np.isnan(found.high)
        assert found.units == number
        assert note in found.note


def test_undefined_draws_are_left_out_and_counted():
    units = ["a", "b"]
    found = interval(lambda clips: np.nan if 0 not in clips else 1.0, units, draws=100)
    assert found[:2] == (1, 1)
    missing = int(found.note.split()[2])
    assert found.note == f"undefined in {missing} of 100 draws"
    assert 10 <= missing <= 40
    never = interval(lambda clips: np.nan, units, draws=10)
    assert np.isnan(never.low)
    assert "every draw" in never.note


def test_a_class_that_a_draw_lacks_is_left_out_of_its_uar():
    true, logits = np.array([0, 0, 1, 1]), np.eye(3)[[0, 0, 1, 2]]
    resampling = Resampling(["a", "a", "b", "b"], draws=30)
    values = recalls(resampling.confusions(true, logits.argmax(1), 3))
    found = class_intervals(true, logits, ["a", "a", "b", "b"], draws=30)["UAR"]
    assert np.isnan(values).any()
    assert found[:2] == (50, 100)


def test_units_for_some_clips_only_are_refused():
    with pytest.raises(ValueError, match="1 of 3 clips have no speaker or session"):
        interval(lambda clips: 1.0, ["a", "", "b"])
    with pytest.raises(ValueError, match="0 of 0 clips"):
        Resampling([])
