"""The study of what pre-training is worth: its commands, and its table from predictions of known quality."""

import json

import numpy as np
import pytest
from etils import epath

from benchmarks import evidence, evidence_figure
from data_pipeline.corpora.protocols import protocol
from hicmae_jax.runs import fold_scores
from hicmae_jax.runs.fold_report import fold_directory
from hicmae_jax.settings import finetune, pretrain, recipes, schema

CLASSES = protocol("made_up").outputs


def write_fold(root, name, seed, number, share_right, units=20):
    """Predictions of a fold: a share of each speaker's six clips is right, the others say the next class."""
    directory = epath.Path(fold_directory(epath.Path(evidence._run(root, name, seed)), number))
    directory.mkdir(parents=True)
    rng = np.random.default_rng(seed + 10 * number)
    true = np.tile(np.arange(6), units)
    predicted = np.where(rng.random(len(true)) < share_right, true, (true + 1) % 6)
    eye = np.eye(6, dtype=np.float32)
    arrays = {
        "name": np.array([f"{number}-{i:03}" for i in range(len(true))]),
        "speaker": np.array([f"{number}-{i // 6}" for i in range(len(true))]),
        "true": eye[true],
        "scores": eye[predicted],
    }
    written = {"protocol": "made_up", "outputs": list(CLASSES), "selection": "", "flags": [], "left_out": []}
    written |= {epoch: {"step": 1, "epoch": 1.0} for epoch in ("last", "best")}
    for epoch in ("last", "best"):
        fold_scores.write_arrays(directory / f"{epoch}.npz", arrays)
    (directory / "scores.json").write_text(json.dumps(written))


@pytest.fixture
def root(tmp_path):
    for name, share in (("pre-trained", 0.7), ("from scratch", 0.4)):
        for seed in range(2):
            for number in (1, 2):
                write_fold(tmp_path, name, seed, number, share)
    return tmp_path


def rows_of(root):
    names = ("pre-trained", "from scratch")
    return evidence.figures({name: evidence.read_result(root, name, 2) for name in names})


def test_a_variant_is_scored_over_folds_and_seeds(root):
    first, second = rows_of(root)
    assert first["UAR"] == pytest.approx(70, abs=5)
    assert second["UAR"] == pytest.approx(40, abs=5)
    assert first["UAR"] == pytest.approx(np.mean(first["UAR by seed"]))
    low, high = first["UAR interval"]
    assert low < first["UAR"] < high


def test_the_difference_has_an_interval_and_a_sign(root):
    first, second = rows_of(root)
    assert first["difference"] == pytest.approx(first["UAR"] - second["UAR"])
    low, high = first["difference interval"]
    assert 0 < low < first["difference"] < high
    assert second["difference interval"] == pytest.approx([-high, -low])


def test_the_table_has_a_row_for_each_variant(root):
    lines = evidence.table(rows_of(root)).splitlines()
    assert len(lines) == 4
    assert lines[2].startswith("| pre-trained | ")
    assert lines[2].endswith("to from scratch |")


def test_the_picture_has_a_line_for_each_variant_and_a_mark_for_each_seed(root):
    rows = rows_of(root)
    (axes,) = evidence_figure.draw(rows, 100 / 6).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["pre-trained", "from scratch"]
    drawn = {line.get_label(): list(line.get_xdata()) for line in axes.get_lines()}
    assert drawn["one seed"] == [seed for row in rows for seed in row["UAR by seed"]]
    assert list(axes.get_lines()[0].get_xdata()) == [row["UAR"] for row in rows]


def test_an_unfinished_fold_is_named(root):
    with pytest.raises(ValueError, match=r"without_contrast-0/fold-1 is not finished"):
        evidence.read_result(root, "without contrast", 2)


@pytest.mark.parametrize("name", list(evidence.VARIANTS))
def test_a_variant_changes_settings_that_exist(name, tmp_path):
    for key in evidence.VARIANTS[name].flags(tmp_path):
        assert key.removeprefix("config.") in finetune.SCHEMA.hints


def test_both_recipes_fit_each_other(tmp_path):
    sets = {"data.sets": (str(tmp_path),)}
    first, second = (
        schema.flatten(recipes.load(f"evidence:{stage}").to_dict()) for stage in ("pretrain", "finetune")
    )
    before = pretrain.from_config_dict(schema.nested(first | sets), "cpu")
    after = finetune.from_config_dict(schema.nested(second | sets), "cpu", before.model)
    assert after.model == before.model
    for changes in evidence.PRETRAININGS.values():
        assert {key.removeprefix("config.") for key in changes} <= set(pretrain.SCHEMA.hints)


def test_each_variant_is_compared_with_one_that_exists():
    assert {variant.compared_with for variant in evidence.VARIANTS.values()} <= set(evidence.VARIANTS)
