"""Views and clips of a task become one score: the goldens, repeats, missing views, labels that differ."""

import numpy as np
import pytest

from hicmae_jax.evaluation.merging import Merged, merge_tasks, merge_views, softmax, task_of
from tests.support.golden_check import assert_agrees


def test_merged_scores_agree_with_the_goldens():
    assert_agrees("merging")


def test_a_view_that_comes_again_counts_once():
    merged = merge_views(
        ["a", "a", "b", "a", "b"], [0, 1, 0, 0, 1], [[1.0], [2], [3], [9], [5]], regression=True
    )
    assert merged.names == ("a", "b")
    np.testing.assert_array_equal(merged.scores, [[1.5], [4]])


def test_softmax_holds_for_large_logits():
    found = softmax(np.array([[1000.0, 1000, -1000], [0, 0, 0]], np.float16))
    np.testing.assert_allclose(found, [[0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3]])


def test_bad_rows_are_refused():
    with pytest.raises(ValueError, match="clip b has no view 1, other clips have"):
        merge_views(["a", "a", "b"], [0, 1, 0], np.ones((3, 2)), regression=False)
    with pytest.raises(ValueError, match=r"2 names, 1 views and outputs \(2, 2\)"):
        merge_views(["a", "b"], [0], np.ones((2, 2)), regression=False)
    with pytest.raises(ValueError, match="outputs of 1 of 2 rows are not finite, first clip b"):
        merge_views(["a", "b"], [0, 0], [[1.0], [np.nan]], regression=True)


def test_tasks_need_their_names_and_one_label():
    assert task_of("aff01_task2_x_0007_3") == "aff01_task2_x"
    with pytest.raises(ValueError, match="clip 'aff01_2'"):
        task_of("aff01_2")
    merged = Merged(("a_b_c_0", "a_b_c_1"), np.ones((2, 3)))
    with pytest.raises(ValueError, match="clips a_b_c_0 and a_b_c_1 of task a_b_c have the labels 1 and 2"):
        merge_tasks(merged, np.array([1, 2]))
    with pytest.raises(ValueError, match="1 labels for 2 clips"):
        merge_tasks(merged, np.array([1]))
