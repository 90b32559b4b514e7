"""Goodput: what a run has kept of its time, over kills, stops and restarts."""

import datetime
import json
import random

import pytest

from hicmae_jax.logs import goodput as goodputs
from hicmae_jax.logs import ledger, starts
from hicmae_jax.logs.goodput import NO_WORD, RUNNING, SPLIT, of_run
from hicmae_jax.logs.starts import FINISHED, read_events
from tests.support.made_up_study import BEGUN, moment


def at(seconds, event, **details):
    return {"time": BEGUN + datetime.timedelta(seconds=seconds), "event": event, **details}


def lines(*steps_and_paces):
    return [{"step": step, "time/step_seconds": pace} for step, pace in steps_and_paces]


def goodput(events, lines, written=None, beat=None):
    return goodputs.goodput(starts.find(events, lines, beat), lines, written)


LATER = BEGUN + datetime.timedelta(seconds=1000)
PACES = lines((50, 1.0), (100, 1.0), (150, 1.0), (200, 1.0))


def test_a_run_without_interruption():
    found = goodput([at(0, "started", step=0), at(250, "finished")], PACES, LATER)
    assert found.share == pytest.approx(200 / 250)
    assert [(part.kept_steps, part.end) for part in found.parts] == [(200, FINISHED)]


def test_a_killed_run_loses_the_steps_after_its_checkpoint_and_the_wait():
    events = [
        at(0, "started", step=0),
        at(80, "slow", line="a step took 9 s"),
        at(200, "started", step=100),  # killed between; the checkpoint was of step 100
        at(320, "finished"),
    ]
    found = goodput(events, PACES, LATER)
    assert [(part.seconds, part.kept_steps, part.end) for part in found.parts] == [
        (200, 100, NO_WORD),
        (120, 100, FINISHED),
    ]
    assert found.share == pytest.approx(200 / 320)
    assert (found.split["training"], found.split["rest"], found.split["down"]) == (200, 120, 0)


def test_a_stopped_run_loses_the_wait_for_the_next_start():
    stopped = at(110, "stopped", line="Stopped: stopped by SIGTERM")
    events = [at(0, "started", step=0), stopped, at(400, "started", step=100), at(500, "finished")]
    found = goodput(events, PACES, LATER)
    assert [part.end for part in found.parts] == ["stopped by SIGTERM", FINISHED]
    assert found.share == pytest.approx(200 / 500)
    assert found.split == dict.fromkeys(SPLIT, 0) | {"training": 200, "rest": 10, "down": 290}


def test_the_time_after_a_finished_run_does_not_count():
    events = [
        *(at(0, "started", step=0), at(125, "finished")),
        *(at(900_000, "started", step=100), at(900_125, "finished")),
    ]
    assert goodput(events, PACES, LATER).share == pytest.approx(200 / 250)


def test_each_part_has_its_own_pace():
    events = [at(0, "started", step=0), at(400, "started", step=100), at(500, "finished")]
    found = goodput(events, lines((50, 2.0), (100, 2.0), (150, 0.5), (200, 0.5)), LATER)
    assert [part.progress for part in found.parts] == [200, 50]


def test_a_run_that_has_not_ended_reaches_to_its_last_line():
    found = goodput([at(0, "started", step=0)], PACES, BEGUN + datetime.timedelta(seconds=400))
    assert (found.seconds, found.share, found.parts[0].end) == (400, 0.5, RUNNING)
    assert not found.measured


def test_a_run_that_has_not_measured_a_step_has_no_share():
    found = goodput([at(0, "started", step=0), at(9, "stopped", line="x")], [{"step": 1}], LATER)
    assert found.share is None
    assert goodput([at(0, "damaged checkpoint", line="x")], [], LATER) is None


def test_a_branch_counts_its_own_steps():
    events = [at(0, "branched", line="from x"), at(0, "started", step=150), at(100, "finished")]
    assert goodput(events, PACES, LATER).share == pytest.approx(0.5)


def test_half_a_line_of_a_killed_process_does_not_count(tmp_path):
    whole = {"time": moment(0), "event": "started", "step": 0}
    (tmp_path / "events.jsonl").write_text(json.dumps(whole) + '\n{"time": "2026-01\n[3]\n{"x": 1}\n')
    assert [event["event"] for event in read_events(tmp_path)] == ["started"]
    assert read_events(tmp_path / "none") == []
    assert of_run(tmp_path / "none", []) is None


# --- With accounts ------------------------------------------------------------------------------------------


def account(starting, training, input=0.0, saving=0.0, evaluating=0.0):
    return dict(zip(ledger.KINDS, (starting, training, input, saving, evaluating), strict=True))


def begin(seconds, step, loading=3.0):
    """The events of a start whose process began at this time."""
    return [
        at(seconds + loading, "starting", step=step, began=moment(seconds)),
        at(seconds + 2 * loading, "started", step=step, total_steps=200),
    ]


def end(seconds, event, step, spent):
    return at(seconds, event, step=step, spent=spent, line="Stopped: stopped by SIGTERM")


def line(step, spent):
    return {"step": step, "loss/total": 1.0, **ledger.in_metrics(spent)}


def split(**seconds):
    return pytest.approx(dict.fromkeys(SPLIT, 0.0) | seconds)


def test_a_finished_run_is_split_as_its_account_says():
    spent = account(30, 200, 10, 5, 15)
    found = goodput([*begin(0, 0), end(260, "finished", 200, spent)], [])
    assert found.split == split(**spent)
    assert found.seconds == pytest.approx(260)
    assert (found.share, found.measured) == (pytest.approx(200 / 260), True)


def test_a_killed_run_has_lost_the_steps_that_are_made_again():
    events = [
        *begin(0, 0),
        # It was killed after step 150, whose checkpoint is of step 100, and began again after 40 s.
        at(203, "interrupted", step=150, spent=account(10, 120, 30)),
        *begin(200, 100),
        end(330, "finished", 200, account(20, 100, 10)),
    ]
    found = goodput(events, [])
    first, second = found.parts
    assert first.split == split(starting=10, training=80, input=20, lost=50, down=40)
    assert (first.kept_steps, first.redone_steps, first.end) == (100, 50, NO_WORD)
    assert second.split == split(starting=20, training=100, input=10)
    assert found.seconds == pytest.approx(330)
    assert found.share == pytest.approx(180 / 330)


def test_a_run_killed_twice_from_one_checkpoint_loses_both_ways():
    events = [
        *begin(0, 0),
        at(103, "interrupted", step=40, spent=account(10, 40)),
        *begin(100, 20),
        at(203, "interrupted", step=30, spent=account(10, 10)),
        *begin(200, 0),  # both checkpoints were damaged
        end(410, "finished", 200, account(10, 200)),
    ]
    found = goodput(events, [])
    assert [(part.kept_steps, part.redone_steps) for part in found.parts] == [(0, 40), (0, 10), (200, 0)]
    assert found.split == split(training=200, starting=30, lost=50, down=50 + 80)
    assert found.seconds == pytest.approx(410)


def test_a_stopped_run_is_down_until_it_begins_again():
    events = [
        *begin(0, 0),
        end(110, "stopped", 100, account(10, 99, 0, 1)),
        *begin(500, 100),
        end(610, "finished", 200, account(10, 100)),
    ]
    found = goodput(events, [])
    assert found.split == split(starting=20, training=199, saving=1, down=390)
    assert [part.end for part in found.parts] == ["stopped by SIGTERM", FINISHED]


def test_a_finished_run_that_goes_on_later_was_not_down():
    events = [
        *begin(0, 0),
        end(110, "finished", 100, account(10, 100)),
        *begin(900_000, 100),
        end(900_110, "finished", 200, account(10, 100)),
    ]
    assert goodput(events, []).split == split(starting=20, training=200)


def test_a_clock_that_goes_back_makes_no_part_negative():
    events = [
        *begin(1_000, 0),
        end(1_110, "stopped", 100, account(10, 100)),
        *begin(0, 100),
        end(110, "finished", 200, account(10, 100)),
    ]
    assert goodput(events, []).split == split(starting=20, training=200)


def test_a_start_that_ends_before_its_first_sign_is_down():
    events = [
        *begin(0, 0),
        end(110, "stopped", 100, account(10, 100)),
        *begin(150, 100)[:1],
        *begin(200, 100),
        end(310, "finished", 200, account(10, 100)),
    ]
    found = goodput(events, [])
    assert found.split == split(starting=20, training=200, down=90)
    assert [part.end for part in found.parts][1] == NO_WORD


def test_a_run_under_way_reaches_to_its_last_sign():
    lines = [line(20, account(10, 20)), line(40, account(10, 40, 5))]
    by_lines = goodput(begin(0, 0), lines)
    assert by_lines.split == split(starting=10, training=40, input=5)
    assert by_lines.parts[0].kept_steps == 40
    beat = {"began": moment(0), "step": 44, "spent": account(10, 44, 7)}
    assert goodput(begin(0, 0), lines, beat=beat).split == split(starting=10, training=44, input=7)
    # That of an earlier start does not count.
    assert goodput(begin(0, 0), lines, beat=beat | {"began": moment(-9)}).split == by_lines.split


def test_a_run_of_old_and_new_starts_has_a_rest():
    old = [at(0, "started", step=0), at(150, "stopped", line="Stopped: x")]
    new = [*begin(200, 100), end(310, "finished", 200, account(10, 100))]
    found = goodput([*old, *new], PACES)
    assert found.split == split(training=200, rest=50, starting=10, down=50)
    assert (found.seconds, found.measured) == (pytest.approx(310), False)


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_the_parts_add_up_to_the_time_between_the_first_begin_and_the_last_end(seed):
    draw = random.Random(seed)
    events, now, step = [], 0.0, 0
    for _ in range(6):
        spent = account(*(round(draw.uniform(0, 50), 3) for _ in ledger.KINDS))
        reached = step + draw.randint(0, 30)
        events += begin(now, step)
        now += sum(spent.values())
        events.append(end(now, draw.choice(["stopped", "interrupted"]), reached, spent))
        step = draw.randint(0, reached)
        last, now = now, now + draw.randint(1, 50)
        now = float(int(now) + 1)
    found = goodput(events, [])
    assert found.seconds == pytest.approx(last, abs=1e-6)
    assert all(seconds >= 0 for part in found.parts for seconds in part.split.values())
    assert sum(found.split.values()) == pytest.approx(sum(part.seconds for part in found.parts))


# --- Starts -------------------------------------------------------------------------------------------------


def test_a_start_begins_with_the_process_and_not_again_with_the_training():
    events = [*begin(0, 0), *begin(100, 50), at(300, "started", step=60)]
    assert [start.first_step for start in starts.find(events)] == [0, 50, 60]
    assert [start.total_steps for start in starts.find(events)] == [200, 200, None]


def test_what_the_next_start_notes_of_a_killed_one():
    (start,) = starts.find(begin(0, 0), [line(40, account(10, 40))])
    assert starts.interruption(start) == {"step": 40, "spent": account(10, 40)}
    (start,) = starts.find([*begin(0, 0), end(60, "stopped", 50, account(10, 50))])
    assert starts.interruption(start) is None
    (old,) = starts.find([at(0, "started", step=0)], PACES)
    assert starts.interruption(old) == {"step": 200}
