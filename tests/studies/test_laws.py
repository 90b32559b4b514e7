"""The law of scaling: planted laws are found again, and what the runs do not determine is said."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

from hicmae_jax.studies import laws
from hicmae_jax.studies.fitted_law import fit_law
from hicmae_jax.studies.law import Law, losses
from hicmae_jax.studies.law_bootstrap import bootstrap
from hicmae_jax.studies.law_fit import fit
from hicmae_jax.studies.law_held_out import front
from hicmae_jax.studies.law_points import Points
from tests.support.paths import ROOT

PLANTED = Law(E=0.9, A=260.0, B=110.0, alpha=0.45, beta=0.3)


def points(law=PLANTED, noise=0.0, seed=0, sizes=5, budgets=5, repeats=1):
    parameters, examples = np.meshgrid(np.geomspace(1e6, 3e8, sizes), np.geomspace(1e6, 1e9, budgets))
    parameters, examples = (np.repeat(values.ravel(), repeats) for values in (parameters, examples))
    factors = np.exp(noise * np.random.default_rng(seed).standard_normal(parameters.size))
    return Points(parameters, examples, law.loss(parameters, examples) * factors)


@pytest.mark.parametrize(
    "law",
    [
        PLANTED,
        Law(0.2, 4e3, 3.0, 0.7, 0.1),
        Law(2.0, 5.0, 1e5, 0.12, 1.0),
        Law(0.0, 20.0, 30.0, 0.2, 0.35),
    ],
)
def test_a_law_without_noise_is_found_exactly(law):
    found = fit(points(law)).law
    for name in ("E", "A", "B", "alpha", "beta"):
        assert getattr(found, name) == pytest.approx(getattr(law, name), rel=1e-3, abs=1e-5), name
    assert float(found.loss(3e9, 1e10)) == pytest.approx(float(law.loss(3e9, 1e10)), rel=1e-5)


@pytest.mark.parametrize("seed", range(8))
def test_a_run_four_times_beyond_is_predicted_within_half_a_percent(seed):
    found = fit(points(noise=0.003, seed=seed)).law
    assert float(found.loss(1.2e9, 4e9)) == pytest.approx(float(PLANTED.loss(1.2e9, 4e9)), rel=5e-3)


def test_a_run_that_has_gone_wrong_hardly_moves_the_law():
    runs = points(noise=0.003)
    runs.loss[12] *= 1.3
    assert float(fit(runs).law.loss(3e8, 1e9)) == pytest.approx(float(PLANTED.loss(3e8, 1e9)), rel=5e-3)
    assert fit(runs).weights[12] < 0.05


def test_nine_of_ten_intervals_hold_the_truth():
    truth, held, held_by_law = float(PLANTED.loss(1.2e9, 4e9)), 0, 0
    for seed in range(20):
        runs = points(noise=0.003, seed=seed, sizes=4, budgets=4)
        drawn = bootstrap(runs, fit(runs), draws=60)
        new_run = truth * np.exp(0.003 * np.random.default_rng(100 + seed).standard_normal())
        low, high = drawn.interval_of_run(1.2e9, 4e9)
        held += low <= new_run <= high
        low, high = drawn.interval_of_law(1.2e9, 4e9)
        held_by_law += low <= truth <= high
        assert high - low < 0.05 * truth
    assert held >= 15
    assert held_by_law >= 15


def test_many_laws_at_once_give_what_each_gives():
    laws_ = [PLANTED, Law(0.0, 0.0, 3.0, 0.4, 0.2), Law(0.5, 2.0, 0.0, 0.3, None)]
    each = [float(law.loss(1e7, 1e8)) for law in laws_]
    assert losses(laws_, 1e7, 1e8) == pytest.approx(each)


def test_a_law_without_terms_gives_a_loss_for_every_run():
    constant = Law(0.7, 0.0, 0.0, 0.4, None)
    assert constant.loss(1e6, np.array([1e3, 1e4])).tolist() == [0.7, 0.7]
    assert constant.loss(np.ones((2, 1)), 1e3).tolist() == [[0.7], [0.7]]


def test_seeds_of_one_point_are_drawn_together():
    runs = points(noise=0.003, sizes=3, budgets=3, repeats=4)
    assert runs.groups.tolist() == np.repeat(np.arange(9).reshape(3, 3).T.ravel(), 4).tolist()
    assert fit_law(runs).predict(3e8, 1e9).loss == pytest.approx(float(PLANTED.loss(3e8, 1e9)), rel=5e-3)


def test_acceptable_exponents_hold_the_planted_ones_and_no_far_ones():
    found = fit_law(points(noise=0.003))
    for name in ("alpha", "beta"):
        low, high = found.region.range_of(name)
        assert low < getattr(PLANTED, name) < high
        assert high - low < 0.1
    assert found.warnings() == []


def test_the_largest_runs_are_predicted_from_the_others():
    runs = points(noise=0.003)
    found = fit_law(runs).held_out
    assert sorted(found.runs.compute) == sorted(runs.compute)[-5:]
    errors = found.errors()
    assert errors["law"] < 0.01
    assert errors["law"] < errors["no further gain"] / 5
    assert errors["law"] < errors["power law in compute"] / 2


def test_runs_of_one_size_give_a_law_of_examples_alone():
    runs = points(sizes=1, budgets=6)
    found = fit_law(runs)
    assert found.fit.law.alpha is None
    assert found.fit.law.beta == pytest.approx(0.3, rel=1e-4)
    assert "no term of N" in found.warnings()[0]
    assert found.predict(1e6, 1e10).loss == pytest.approx(float(PLANTED.loss(1e6, 1e10)), rel=1e-4)
    with pytest.raises(
        ValueError, match=r"parameters = 1e\+06, so the law says nothing of parameters = 1e\+07"
    ):
        found.predict(1e7, 1e10)


def test_two_sizes_do_not_determine_what_size_gains():
    runs = points(noise=0.003, sizes=2)
    found = fit_law(runs)
    assert "two values of N" in found.warnings()[0]
    low, high = found.predict(1e10, 1e9).interval
    assert high - low > 0.2 * low


def test_size_and_examples_that_change_together_are_not_told_apart():
    sizes = np.geomspace(1e6, 1e9, 9)
    runs = Points(sizes, 20 * sizes, PLANTED.loss(sizes, 20 * sizes))
    assert "cannot be told apart" in fit_law(runs).warnings()[0]


def test_the_pareto_front_holds_the_runs_that_nothing_cheaper_beats():
    compute, loss = np.array([3.0, 1.0, 2.0, 2.0, 4.0]), np.array([1.0, 3.0, 2.0, 2.5, 1.0])
    assert front(compute, loss).tolist() == [1, 2, 0]


# --- The command ---


def write(path, runs, header="run,parameters,examples,loss,unfit", ending=",", further=()):
    rows = [
        f"r,{n},{d},{loss}{ending}"
        for n, d, loss in zip(runs.parameters, runs.examples, runs.loss, strict=True)
    ]
    path.write_text("\n".join([header, *rows, *further]) + "\n")
    return path


def test_the_command_writes_the_law_and_its_prediction(tmp_path):
    file = write(tmp_path / "runs.csv", points(noise=0.003), further=["x,,,,decay too short"])
    command = [sys.executable, "-m", "hicmae_jax.studies.laws", str(file), "--predict=1.2e9,4e9"]
    done = subprocess.run(
        [*command, f"--json={tmp_path / 'law.json'}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = json.loads((tmp_path / "law.json").read_text())
    truth = float(PLANTED.loss(1.2e9, 4e9))
    assert found["prediction"] == pytest.approx(truth, rel=5e-3)
    assert found["interval"][0] < truth < found["interval"][1]
    law = Law(**{name: found[name] for name in ("E", "A", "B", "alpha", "beta")})
    assert float(law.loss(1.2e9, 4e9)) == pytest.approx(found["prediction"])
    assert (found["runs"], found["left_out"]) == (25, 1)
    assert "1 left out as unfit" in done.stdout
    assert "extrapolated: 4 times the largest parameters, 4 times the largest examples" in done.stdout
    assert done.stderr == ""


def test_nobody_needs_to_read_what_the_command_prints(tmp_path):
    file = write(tmp_path / "runs.csv", points(noise=0.003, sizes=3, budgets=3))
    command = [sys.executable, "-m", "hicmae_jax.studies.laws", str(file)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def _changed(**columns):
    runs = points(sizes=3, budgets=3)
    return Points(*(columns.get(name, getattr(runs, name)) for name in ("parameters", "examples", "loss")))


@pytest.mark.parametrize(
    ("runs", "options", "message"),
    [
        (points(sizes=2, budgets=2), {}, "4 runs of different N and D are too few: .* at least 6"),
        (points(sizes=1, budgets=1, repeats=9), {}, "all 9 runs have one size and one number of examples"),
        (_changed(loss=1 - _changed().loss / 9), {}, "the loss rises .* give 1 - score"),
        (_changed(loss=np.ones(9)), {}, "all runs have the loss 1: there is nothing to fit"),
        (_changed(), {"header": "run,parameters,examples,total,unfit"}, "has no column loss"),
        (_changed(), {"ending": ",bad"}, r"there are no runs \(9 rows are left out by the column unfit\)"),
        (_changed(), {"further": ["r,1e6,-1,3,"]}, "line 11: examples is '-1', not a positive number"),
        (_changed(), {"further": ["r,1e6,1e6,nan,"]}, "line 11: loss is 'nan', not a positive number"),
        (_changed(), {"further": ["r,1e6"]}, "line 11: examples is '', not a positive number"),
    ],
)
def test_a_file_that_cannot_be_fitted_gets_one_line(tmp_path, capsys, runs, options, message):
    file = write(tmp_path / "runs.csv", runs, **options)
    assert laws.main([str(file), "--predict=1e9,1e9"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("laws: ")
    assert err.count("\n") == 1
    assert re.search(message, err), err


@pytest.mark.parametrize("asked", ["1e9", "1e9,x", "1e9,-1", "1,2,3", "inf,1"])
def test_a_wrong_prediction_gets_one_line(tmp_path, capsys, asked):
    assert laws.main([str(write(tmp_path / "runs.csv", points())), f"--predict={asked}"]) == 1
    assert capsys.readouterr().err.startswith(f"laws: --predict={asked}: give two positive numbers")


@pytest.mark.parametrize("arguments", [[], ["--no"], ["a.csv", "b.csv"]])
def test_a_wrong_command_line_ends_with_code_1(capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        laws.main(arguments)
    assert ended.value.code == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_missing_file_and_a_missing_directory_are_named(tmp_path, capsys):
    assert laws.main([str(tmp_path / "no.csv")]) == 1
    assert "no.csv: there is no such file" in capsys.readouterr().err
    file = write(tmp_path / "runs.csv", points())
    assert laws.main([str(file), f"--json={tmp_path}/no/law.json"]) == 1
    assert "there is no directory" in capsys.readouterr().err
