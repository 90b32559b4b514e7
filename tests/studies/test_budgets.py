"""Runs of several lengths: where they branch off, how long they decay, and which are unfit for a law."""

import pytest

from hicmae_jax.studies import budgets
from hicmae_jax.studies.budgets import Lengths
from hicmae_jax.studies.plan import PlannedRun
from hicmae_jax.training.optimizer import OptimizerConfig


def lengths(*steps, warmup=10, share=0.2, least=40):
    return Lengths("steps", steps, steps, warmup, share, least)


def test_shorter_runs_branch_off_the_longest():
    trunk, short, middle = budgets.branch_off(PlannedRun("size=T", {"size": "T"}), lengths(100, 300, 1000))
    assert (trunk.name, trunk.kind, trunk.steps, trunk.trunk) == ("size=T,steps=1000", "run", 1000, None)
    # 40 steps are the least; 20 % of 300 and of 1,000 are more.
    assert trunk.settings["checkpoint.branches"] == "(60, 240,)"
    assert [(run.name, run.kind, run.trunk) for run in (short, middle)] == [
        ("size=T,steps=100", "branch", trunk.name),
        ("size=T,steps=300", "branch", trunk.name),
    ]
    assert (short.branch_step, middle.branch_step) == (60, 240)
    assert (short.new_steps, middle.new_steps) == (40, 60)
    assert {run.settings["size"] for run in (trunk, short, middle)} == {"T"}
    assert not any(run.unfit for run in (trunk, short, middle))


@pytest.mark.parametrize("steps", [97, 100, 1003, 123457])
def test_the_optimiser_decays_from_the_branch_on(steps):
    *_, short = budgets.branch_off(PlannedRun("run"), lengths(steps, 10 * steps))
    config = OptimizerConfig(
        epochs=steps,
        warmup_epochs=10,
        steps_per_epoch=1,
        shape=short.settings["optimizer.schedule"],
        decay_share=float(short.settings["optimizer.decay_share"]),
    )
    assert config.decay_steps == short.new_steps
    assert config.schedule()(short.branch_step) == config.schedule()(20) > config.schedule()(steps - 1)


def test_a_run_too_short_for_its_decay_is_unfit():
    _, short, fit = budgets.branch_off(PlannedRun("run"), lengths(30, 51, 200))
    assert short.unfit == "its decay has 19 steps, fewer than 40"
    assert short.branch_step == 11
    assert fit.unfit is None
    assert fit.branch_step == 11


@pytest.mark.parametrize("steps", [(), (20, 10), (20, 20)])
def test_budgets_must_ascend(steps):
    with pytest.raises(ValueError, match="give ascending lengths"):
        lengths(*steps)


def test_a_budget_must_be_longer_than_the_warm_up():
    with pytest.raises(ValueError, match="10 steps are 10 steps, of which the warm-up takes 10"):
        lengths(10, 100)


@pytest.mark.parametrize("text", [["ten"], ["0", "5"], ["-1"], ["1.5"], []])
def test_budgets_are_whole_numbers(text):
    with pytest.raises(ValueError, match="give whole numbers"):
        budgets.parse(text)
    assert budgets.parse(["5", "10"]) == (5, 10)
