"""What the main thread notes of itself: stages, steps and pauses, and how long they took."""

import pytest

from hicmae_jax.supervision.activity import REMEMBERED, STEP, Activity
from tests.support.fake_clock import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def activity(clock):
    return Activity(step=7, limit=10.0, clock=clock)


def test_the_innermost_stage_counts_and_the_outer_one_comes_back(activity):
    with activity.stage("evaluation"):
        with activity.stage("device"):
            assert (activity.moment.stage, activity.moment.pause) == ("device", "evaluation")
        assert activity.moment.stage == "evaluation"
    assert (activity.moment.stage, activity.moment.pause) == ("training", "")


def test_a_stage_ends_with_an_error_inside(activity):
    with pytest.raises(OSError, match="broken"), activity.stage("checkpoint"):
        raise OSError("broken")
    assert (activity.moment.stage, activity.moment.pause) == ("training", "")


def test_a_stage_that_does_not_exist_is_refused(activity):
    with (
        pytest.raises(ValueError, match="stage 'inptu' is none of training, start, input"),
        activity.stage("inptu"),
    ):
        pass


def test_pauses_are_timed_by_themselves_and_not_as_part_of_the_step(activity, clock):
    clock.go(2)
    with activity.stage("checkpoint"):
        clock.go(5)
        with activity.stage("device"):
            clock.go(1)
        assert activity.moment.elapsed(clock()) == 6
    assert activity.moment.elapsed(clock()) == 2
    clock.go(1)
    activity.step(8)
    assert activity.taken[STEP] == (3.0,)
    assert activity.taken["checkpoint"] == (6.0,)
    assert (activity.moment.step, activity.moment.elapsed(clock())) == (8, 0)


def test_a_pause_within_another_is_part_of_it(activity, clock):
    with activity.stage("evaluation"):
        clock.go(1)
        with activity.stage("checkpoint"):
            clock.go(2)
        clock.go(3)
    clock.go(4)
    activity.step(8)
    assert (activity.taken["evaluation"], activity.taken["checkpoint"]) == ((6.0,), ())
    assert activity.taken[STEP] == (4.0,)


def test_every_stage_and_step_is_a_sign_of_life(activity, clock):
    signs = [activity.moment.since]

    def note():
        signs.append(activity.moment.since)
        clock.go(1)

    clock.go(1)
    with activity.stage("input"):
        note()
    note()
    activity.step(8)
    note()
    assert signs == sorted(set(signs))


def test_what_takes_too_long_is_kept_with_what_it_was_spent_on(activity, clock):
    with activity.stage("input"):
        clock.go(8)
    with activity.stage("evaluation"):
        clock.go(9)
    with activity.stage("device"):
        clock.go(1)
    clock.go(2)
    activity.step(8)
    clock.go(9)
    activity.step(9)
    (ended,) = activity.too_long
    assert (ended.kind, ended.step, ended.seconds) == (STEP, 7, 11.0)
    assert ended.spent == {"input": 8.0, "device": 1.0, "training": 2.0}


def test_only_the_latest_durations_are_kept(activity, clock):
    for step in range(REMEMBERED + 5):
        clock.go(step)
        activity.step(step)
    assert activity.taken[STEP] == tuple(range(5, REMEMBERED + 5))
