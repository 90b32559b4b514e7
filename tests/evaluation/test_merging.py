"""Views and clips of a task become one score: the goldens, repeats, missing views, labels that differ."""

import json

import numpy as np
import pytest

from hicmae_jax.evaluation.emotion_metrics import class_scores, predictions
from hicmae_jax.evaluation.merging import Merged, merge_tasks, merge_views, softmax, task_of
from hicmae_jax.evaluation.regression_metrics import METRICS, regression_scores
from tests.goldens import finetune_recipe
from tests.support.paths import GOLDENS

with np.load(GOLDENS / "merging.npz") as _file:
    GOLDEN = {name: _file[name] for name in _file.files}
CASES = json.loads(str(GOLDEN["config"]))["cases"]


def numbers_of(kind):
    return [number for number, case in enumerate(CASES) if case["kind"] == kind]


def golden_of(number):
    return {name.removeprefix(f"case{number}_"): value for name, value in GOLDEN.items()}


def as_two_processes(names, outputs):
    """The rows of all views, every second clip by another process, and the first clips twice."""
    rows = [
        (name, view, outputs[view, clip]) for view in range(len(outputs)) for clip, name in enumerate(names)
    ]
    rows = rows[::2] + rows[:3] + rows[1::2] + rows[:5]
    return [list(column) for column in zip(*rows, strict=True)]


def in_order(merged, names):
    return merged.scores[[merged.names.index(name) for name in names]]


@pytest.mark.parametrize("number", numbers_of("class"))
def test_classes_agree_with_the_goldens(number):
    case, golden = CASES[number], golden_of(number)
    true = finetune_recipe.skewed_labels(case["seed"], case["clips"], case["classes"])
    logits = finetune_recipe.logits(case["seed"] + 1, true, case["classes"], case["views"])
    names = [f"clip {i}" for i in range(case["clips"])]
    merged = merge_views(*as_two_processes(names, logits), regression=False)
    assert len(merged.names) == case["clips"]
    scores = in_order(merged, names)
    np.testing.assert_allclose(scores, golden["scores"], rtol=1e-5)
    np.testing.assert_array_equal(predictions(scores), golden["predictions"])
    found = class_scores(true, scores)
    assert found["top-1"] == pytest.approx(golden["top1"])
    assert found["top-5"] == pytest.approx(golden["top5"])


@pytest.mark.parametrize("number", numbers_of("regression"))
def test_dimensions_agree_with_the_goldens(number):
    case, golden = CASES[number], golden_of(number)
    true = finetune_recipe.dimensions(case["seed"], case["clips"], case["outputs"])
    outputs = np.stack(
        [finetune_recipe.predictions(case["seed"] + 1 + v, true) for v in range(case["views"])]
    )
    names = [f"clip {i}" for i in range(case["clips"])]
    scores = in_order(merge_views(*as_two_processes(names, outputs), regression=True), names)
    np.testing.assert_allclose(scores, golden["scores"], rtol=1e-5)
    found = regression_scores(true, scores, ["a", "b", "c"])
    for metric in METRICS:
        scale = 100 if metric in ("CCC", "PCC", "acc") else 1
        assert found[metric] == pytest.approx(scale * golden[f"metric_{metric.lower()}"][0], rel=1e-5)


@pytest.mark.parametrize("number", numbers_of("avcaffe"))
def test_tasks_agree_with_the_goldens(number):
    case, golden = CASES[number], golden_of(number)
    task_labels = finetune_recipe.skewed_labels(case["seed"], case["tasks"], case["classes"])
    true = np.repeat(task_labels, case["clips_of_a_task"])
    logits = finetune_recipe.logits(case["seed"] + 1, true, case["classes"], case["views"])
    names = [f"aff{i // 5:02d}_task_1_{i % 5:04d}" for i in range(len(true))]
    merged = merge_views(*as_two_processes(names, logits), regression=False)
    labels = true[[names.index(name) for name in merged.names]]
    tasks, task_true = merge_tasks(merged, labels)
    wanted = [f"aff{task:02d}_task_1" for task in range(case["tasks"])]
    order = [tasks.names.index(name) for name in wanted]
    np.testing.assert_array_equal(task_true[order], golden["labels"])
    np.testing.assert_allclose(tasks.scores[order], golden["scores"], rtol=1e-5)
    np.testing.assert_array_equal(predictions(tasks.scores)[order], golden["predictions"])
    assert class_scores(task_true, tasks.scores)["top-1"] == pytest.approx(golden["top1"])


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
