"""The loss guard: which losses are reported, and when skipped updates end a run."""

import json

import pytest

from hicmae_jax.logs.events import Events
from hicmae_jax.supervision.loss_guard import ENOUGH, LossGuard

CLIPS = [7, 3]


@pytest.fixture
def guard(tmp_path):
    return LossGuard(Events(tmp_path), skips=3, spike=5.0)


def events(directory):
    file = directory / "events.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_a_skipped_update_is_logged_with_its_clips(guard, tmp_path, capsys):
    assert guard.check(1234, float("nan"), 1, CLIPS) is None
    (event,) = events(tmp_path)
    assert event.pop("time").endswith("+00:00")
    line = event.pop("line")
    assert event == {"event": "skipped update", "step": 1234, "loss": "nan", "in_row": 1, "examples": CLIPS}
    assert line.startswith(
        "step 1,234: loss or gradient is not finite (loss nan), update skipped, 1 in a row"
    )
    assert capsys.readouterr().err == line + "\n"


def test_a_run_ends_after_too_many_skipped_updates_in_a_row(guard, tmp_path):
    reasons = [guard.check(made, 1.0, in_row, CLIPS) for made, in_row in enumerate((1, 2, 0, 1, 2, 3))]
    assert reasons[:5] == [None] * 5
    assert reasons[5].startswith(
        "3 updates in a row, up to step 5, had a loss or gradient that is not finite"
    )
    assert len(events(tmp_path)) == 5


def feed(guard, losses):
    for made, loss in enumerate(losses):
        assert guard.check(made, loss, 0, CLIPS) is None


def usual(count):
    """A falling loss that varies by a tenth."""
    return [3 - 0.001 * step + 0.1 * (-1) ** step for step in range(count)]


def test_a_loss_spike_is_logged_once(guard, tmp_path):
    feed(guard, [*usual(40), 5.0, 5.5, 5.0, *usual(3), 6.0])
    found = events(tmp_path)
    assert [(event["event"], event["step"], event["loss"]) for event in found] == [
        ("loss spike", 40, 5.0),
        ("loss spike", 46, 6.0),
    ]
    assert found[0]["examples"] == CLIPS
    assert found[0]["median"] == pytest.approx(3, abs=0.1)


def test_a_usual_loss_is_not_logged(guard, tmp_path):
    feed(guard, usual(500))
    assert not events(tmp_path)


def test_no_spike_is_logged_before_enough_losses_are_known(guard, tmp_path):
    feed(guard, [*usual(ENOUGH - 1), 9.0])
    assert not events(tmp_path)


def test_losses_of_skipped_updates_do_not_count_for_the_median(guard, tmp_path):
    for made in range(50):
        guard.check(made, float("inf"), 1, CLIPS)
    feed(guard, [*usual(ENOUGH), 9.0])
    assert [event["event"] for event in events(tmp_path)[-2:]] == ["skipped update", "loss spike"]


def test_only_the_first_process_logs(tmp_path, capsys):
    LossGuard(Events(tmp_path, active=False), skips=3, spike=5.0).check(1, float("nan"), 1, CLIPS)
    assert not events(tmp_path)
    assert capsys.readouterr().err == ""


def test_a_resumed_run_appends_its_events(tmp_path):
    for step in (1, 2):
        Events(tmp_path).note("stopped", "a line", step=step)
    assert [event["step"] for event in events(tmp_path)] == [1, 2]


def test_half_a_line_of_a_killed_run_does_not_damage_the_next_line(tmp_path):
    (tmp_path / "events.jsonl").write_text('{"event": "start')
    Events(tmp_path).write("started", step=3)
    torn, whole = (tmp_path / "events.jsonl").read_text().splitlines()
    assert torn == '{"event": "start'
    assert json.loads(whole)["step"] == 3
