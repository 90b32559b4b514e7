"""What the check of the goldens of the fine-tuning recipe takes for a miss, and which files it refuses."""

import numpy as np
import pytest

from tests.support import golden_cases, golden_compare
from tests.support.golden_check import assert_all_within, check
from tests.support.golden_damage import content_of
from tests.support.paths import GOLDENS


def test_the_line_of_many_cases_is_that_of_the_worst():
    golden = golden_cases.load(GOLDENS / "regression.npz")
    values = [(name, value, value) for name, value in golden.arrays.items()]
    lines = golden_compare.compare_cases(golden, values)
    assert len(lines) == 16
    assert_all_within(lines)
    shifted = {"case1_loss_mse": 2e-5, "case3_loss_mse": 1e-4}
    off = [(name, value, value * (1 + shifted.get(name, 0))) for name, value, _ in values]
    (line,) = [line for line in golden_compare.compare_cases(golden, off) if not line.ok]
    assert line.quantity == "loss_mse"
    assert line.worst == pytest.approx(1e-4, rel=1e-2)
    assert line.note.endswith("in case3")


def test_a_number_where_none_should_be_is_a_miss():
    golden = golden_cases.load(GOLDENS / "regression.npz")
    values = [(name, value, np.nan_to_num(value)) for name, value in golden.arrays.items()]
    missed = [line.quantity for line in golden_compare.compare_cases(golden, values) if not line.ok]
    assert missed == ["grad_pcc", "metric_ccc"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"case2_top1": None}, "a.npz: lacks 'case2_top1'"),
        ({"case2_top9": np.ones(1)}, "a.npz: no rule to check case2_top9"),
        ({"config": {"cases": []}}, "a.npz: no rule to check case0_"),
        ({"config": {}}, "a.npz: lacks 'cases'"),
    ],
)
def test_cases_that_are_missing_or_unknown_are_refused(tmp_path, changes, message):
    golden = golden_cases.load(GOLDENS / "merging.npz")
    np.savez(tmp_path / "a.npz", **content_of(golden, **changes))
    with pytest.raises(golden_cases.GoldenError, match=message):
        check(golden_cases.load(tmp_path / "a.npz"))


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("groups", {"run2_rate": None}, "lacks run2_rate"),
        ("groups", {"config": {"size": "S", "classes": 11}}, "config lacks layer_decay, runs, weight_decay"),
        ("finetune_steps_mse", {"grad_norms_last": None}, "lacks grad_norms_last"),
        ("finetune_steps_mse", {"loss": "huber"}, "loss 'huber' must be one of 'cross-entropy, smoothing"),
        ("finetune_steps_mse", {"drop_path": 0.1}, r"drop_path 0\.1 must be 0"),
    ],
)
def test_files_of_the_recipe_of_another_form_are_refused(tmp_path, name, changes, message):
    golden = golden_cases.load(GOLDENS / f"{name}.npz")
    if changes.keys() <= golden.config.keys():
        changes = {"config": golden.config | changes}
    np.savez(tmp_path / "a.npz", **content_of(golden, **changes))
    with pytest.raises(golden_cases.GoldenError, match=message):
        check(golden_cases.load(tmp_path / "a.npz"))
