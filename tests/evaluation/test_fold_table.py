"""The table of a protocol: its four figures, intervals, flags, and results that do not fit."""

import json

import numpy as np
import pytest

from hicmae_jax.evaluation.emotion_metrics import class_scores
from hicmae_jax.evaluation.fold_markdown import markdown
from hicmae_jax.evaluation.fold_table import FoldResult, TableSettings, summarise
from hicmae_jax.evaluation.intervals import class_intervals
from hicmae_jax.evaluation.regression_metrics import regression_scores
from tests.goldens import finetune_recipe

CLASSES = ("ANG", "HAP", "NEU", "SAD")


def settings(**changes):
    choices = {
        "title": "made_up, HiCMAE-T",
        "outputs": CLASSES,
        "regression": False,
        "folds": {1: 40, 2: 60},
        "chosen_by": "highest accuracy on held-out speakers",
        "published": {"UAR": 84.91, "WAR": 84.89},
        "draws": 30,
    }
    return TableSettings(**(choices | changes))


def result(fold, clips, speakers=5, **changes):
    true = finetune_recipe.skewed_labels(fold, clips, len(CLASSES))
    logits = finetune_recipe.logits(fold + 50, true, len(CLASSES), 2)
    fields = {
        "fold": fold,
        "names": tuple(f"{fold}_{i}" for i in range(clips)),
        "units": tuple(f"speaker {fold}.{i % speakers}" for i in range(clips)),
        "true": true,
        "last": logits[0],
        "best": logits[1],
        "best_epoch": 10 + fold,
    }
    return FoldResult(**(fields | changes))


RESULTS = [result(2, 60), result(1, 40)]


def test_all_four_figures_are_there():
    summary = summarise(RESULTS, settings())
    for checkpoint in ("last", "best"):
        figures = summary["figures"][checkpoint]
        folds = [class_scores(r.true, r.outputs(checkpoint)) for r in RESULTS]
        true = np.concatenate([r.true for r in RESULTS])
        together = np.concatenate([r.outputs(checkpoint) for r in RESULTS])
        units = [unit for r in RESULTS for unit in r.units]
        intervals = class_intervals(true, together, units, draws=30)
        for name in ("UAR", "WAR", "weighted F1", "macro F1", "AUC"):
            pooled = figures["pooled"][name]
            assert pooled["value"] == pytest.approx(class_scores(true, together)[name])
            assert (pooled["low"], pooled["high"]) == pytest.approx(intervals[name][:2])
            values = [fold[name] for fold in folds]
            assert figures["mean of folds"][name]["value"] == pytest.approx(np.mean(values))
            assert figures["mean of folds"][name]["deviation"] == pytest.approx(np.std(values, ddof=1))
    of_uar = [
        summary["figures"][checkpoint][joined]["UAR"]["value"]
        for checkpoint in ("last", "best")
        for joined in ("pooled", "mean of folds")
    ]
    assert len(set(of_uar)) == 4
    assert [fold["fold"] for fold in summary["folds"]] == [1, 2]
    assert [fold["best_epoch"] for fold in summary["folds"]] == [11, 12]
    assert (summary["clips"], summary["units"], summary["flags"]) == (100, 10, [])


def test_the_text_has_every_figure():
    summary = summarise(RESULTS, settings())
    text = markdown(summary)
    assert text == markdown(json.loads(json.dumps(summary, allow_nan=False)))
    lines = text.splitlines()
    assert lines[0] == "### made_up, HiCMAE-T"
    head = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert head == [
        "score",
        "last epoch, pooled",
        "last epoch, mean of folds",
        "best epoch, pooled",
        "best epoch, mean of folds",
        "paper",
    ]
    row = [cell.strip() for cell in next(x for x in lines if x.startswith("| UAR")).strip("|").split("|")]
    for cell, checkpoint in zip(row[1::2], ("last", "best")):
        pooled = summary["figures"][checkpoint]["pooled"]["UAR"]
        assert cell == f"{pooled['value']:.2f} [{pooled['low']:.2f}, {pooled['high']:.2f}]"
    for cell, checkpoint in zip(row[2::2], ("last", "best")):
        mean = summary["figures"][checkpoint]["mean of folds"]["UAR"]
        assert cell == f"{mean['value']:.2f} ± {mean['deviation']:.2f}"
    assert row[-1] == "84.91"
    assert "- Best epoch: highest accuracy on held-out speakers." in lines
    assert "resamples of 10 speakers" in text
    assert "Attention" not in text


def test_what_a_reader_must_know_is_flagged():
    true = np.zeros(30, int)
    results = [
        result(1, 40, best=None, best_epoch=None),
        result(2, 30, true=true, names=RESULTS[1].names[:30]),
    ]
    chosen = settings(folds={1: 40, 2: 60, 3: None}, outputs=(*CLASSES[:3], "XXX"))
    present = set(np.unique(results[0].true))
    summary = summarise(results, chosen)
    assert summary["flags"][:4] == [
        "unfinished: 2 of 3 folds have results; missing: fold 3",
        "fold 2: 30 clips, the protocol has 60",
        "fold 1: no best epoch was kept, so there are no figures of it",
        "30 clips are tested in several folds; the pooled figures count each of their tests",
    ]
    assert present == {0, 1, 2, 3}
    text = markdown(summary)
    for flag in summary["flags"]:
        assert f"- Attention: {flag}." in text
    assert summary["figures"]["best"]["pooled"]["UAR"] == {"value": None, "low": None, "high": None}
    assert summary["figures"]["best"]["mean of folds"]["UAR"] == {"value": None, "deviation": None}
    assert summary["folds"][1]["best"]["UAR"] is not None


def test_a_class_without_test_clips_is_flagged():
    true = np.arange(40) % 3
    summary = summarise([result(1, 40, true=true)], settings(folds={1: 40}))
    assert summary["flags"] == ["no test clip has the class SAD"]
    assert summary["figures"]["last"]["mean of folds"]["UAR"]["deviation"] is None


def test_unknown_speakers_give_no_interval_and_a_note():
    summary = summarise([result(1, 40, units=("",) * 40)], settings(folds={1: 40}))
    pooled = summary["figures"]["last"]["pooled"]["UAR"]
    assert pooled["value"] is not None
    assert pooled["low"] is pooled["high"] is None
    assert "the speakers or sessions are unknown" in markdown(summary)


def test_dimensions():
    true = finetune_recipe.dimensions(3, 50, 2)
    predicted = finetune_recipe.predictions(4, true)
    fold = result(1, 50, true=true, last=predicted, best=true + 0.1)
    chosen = settings(
        outputs=("arousal", "valence"), regression=True, folds={1: None}, published={"CCC arousal": 31.85}
    )
    summary = summarise([fold], chosen)
    scores = regression_scores(true, predicted, chosen.outputs)
    pooled = summary["figures"]["last"]["pooled"]
    for name in ("CCC", "CCC arousal", "CCC valence", "PCC", "PCC valence", "RMSE arousal"):
        assert pooled[name]["value"] == pytest.approx(scores[name])
        assert pooled[name]["low"] < scores[name] < pooled[name]["high"]
    text = markdown(summary)
    assert f"| RMSE arousal | {scores['RMSE arousal']:.3f} [" in text
    assert "| 31.85 |" in text
    constant = result(1, 50, true=true, last=np.zeros((50, 2)))
    with pytest.raises(ValueError, match=r"best scores \(50, 4\)"):
        summarise([constant], chosen)
    undefined = summarise([result(1, 50, true=true, last=np.zeros((50, 2)), best=None)], chosen)
    assert undefined["figures"]["last"]["pooled"]["PCC"] == {"value": None, "low": None, "high": None}
    assert "undefined in every draw" in markdown(undefined)
    json.dumps(undefined, allow_nan=False)


@pytest.mark.parametrize(
    ("results", "changes", "message"),
    [
        ([], {}, "no fold has results"),
        ([RESULTS[0], RESULTS[0]], {}, "fold 2 has 2 results"),
        ([result(7, 10)], {}, "fold 7 is not one of the protocol's: 1, 2"),
        (
            RESULTS,
            {"outputs": CLASSES[:3]},
            r"fold 1 has last scores \(40, 4\), not a column for each of ANG",
        ),
        (RESULTS, {"metrics": ("UAR", "UAR2")}, "unknown score 'UAR2'"),
    ],
)
def test_results_that_do_not_fit_are_refused(results, changes, message):
    with pytest.raises(ValueError, match=message):
        summarise(results, settings(**changes))


def test_rows_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"fold 1: numbers of clips must agree.*names 3, units 40"):
        result(1, 40, names=("a", "b", "c"))
    with pytest.raises(ValueError, match=r"best 39"):
        result(1, 40, best=np.zeros((39, 4)))
    with pytest.raises(ValueError, match="fold 1: clip a comes 2 times"):
        result(1, 3, names=("a", "a", "b"))
