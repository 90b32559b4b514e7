"""The loop with a toy step: what a stopped run saves, and how it resumes."""

import json
import signal
import threading
import time

import jax
import numpy as np
import pytest

from hicmae_jax.checkpoints.manager import Checkpoints
from hicmae_jax.supervision.signals import Stopped, StopSignals
from tests.support.processes import HANG
from tests.support.real_runs import lines_without_times
from tests.support.toy_loop import first_state, run, saved_steps, step_function


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run: its directory and last state."""
    directory = tmp_path_factory.mktemp("whole")
    return directory, run(directory)


@pytest.mark.parametrize("stops", [(1,), (4,), (5, 6), (3, 11), (8, 9, 10)], ids=str)
def test_a_resumed_run_writes_what_an_uninterrupted_one_writes(whole, tmp_path, stops):
    for stop in stops:
        with pytest.raises(OSError, match=f"step {stop}: no clip can be read any more"):
            run(tmp_path, data={"stop": stop})
        assert saved_steps(tmp_path)[-1] == stop
    state = run(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, state, whole[1])
    assert saved_steps(whole[0]) == [4, 8, 12]
    lines = lines_without_times(tmp_path)
    assert lines == lines_without_times(whole[0])
    assert len(lines) == 12 // 2 + 12 // 3


def test_a_data_error_is_raised_after_the_state_is_saved(tmp_path):
    with pytest.raises(OSError, match="step 7: no clip"):
        run(tmp_path, data={"stop": 7})
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step() == 7
        saved = checkpoints.restore(first_state())
    expected = run(tmp_path / "short", total=7)
    jax.tree.map(np.testing.assert_array_equal, saved, expected)


def stopped_at(step, directory, kind=signal.SIGTERM, **choices):
    """A run that gets a signal to stop while it reads the batch of a step."""
    signals = StopSignals()
    ask = {step: lambda: setattr(signals, "requested", kind)}
    with pytest.raises(Stopped) as stopped:
        run(directory, signals=signals, data={"at": ask}, **choices)
    return stopped.value


@pytest.mark.parametrize(
    ("step", "saved"),
    # Two steps later, or earlier if the host waits for the devices anyway.
    [(0, 3), (1, 3), (3, 4), (4, 6), (6, 8), (8, 9)],
)
def test_a_signal_stops_the_run_after_a_save_and_it_can_be_resumed(whole, tmp_path, step, saved):
    stopped = stopped_at(step, tmp_path)
    assert (stopped.signal, stopped.step) == (signal.SIGTERM, saved)
    assert saved_steps(tmp_path)[-1] == stopped.step
    state = run(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, state, whole[1])
    assert lines_without_times(tmp_path) == lines_without_times(whole[0])


def test_a_signal_during_the_last_step_changes_nothing(whole, tmp_path):
    signals = StopSignals()
    ask = {11: lambda: setattr(signals, "requested", signal.SIGINT)}
    state = run(tmp_path, signals=signals, data={"at": ask})
    jax.tree.map(np.testing.assert_array_equal, state, whole[1])


def test_a_signal_before_the_first_step_stops_the_run_with_nothing_saved(tmp_path):
    signals = StopSignals()
    signals.requested = signal.SIGTERM
    with pytest.raises(Stopped, match="SIGTERM with nothing new to save"):
        run(tmp_path, signals=signals)
    assert saved_steps(tmp_path) == []


def test_too_many_skipped_updates_stop_the_run_with_the_last_good_state_saved(tmp_path):
    with pytest.raises(RuntimeError, match="3 updates in a row, up to step 8, had a loss or gradient"):
        run(tmp_path, data={"bad": range(5, 20)})
    expected = run(tmp_path / "short", total=5)
    with Checkpoints(tmp_path) as checkpoints:
        saved = checkpoints.restore(first_state())
    assert saved.params["w"].tolist() == expected.params["w"].tolist()
    assert saved.step == saved_steps(tmp_path)[-1] == 8
    events = map(json.loads, (tmp_path / "events.jsonl").read_text().splitlines())
    assert [event["examples"][0] for event in events] == [5, 6, 7]


def test_resumed_runs_that_skip_every_update_save_nothing(tmp_path):
    for _ in range(3):
        with pytest.raises(RuntimeError, match="updates in a row"):
            run(tmp_path, data={"bad": range(5, 20)})
    assert saved_steps(tmp_path) == [4, 8]


def test_single_skipped_updates_do_not_stop_the_run(tmp_path):
    state = run(tmp_path, data={"bad": (3, 4, 9)})
    assert np.isfinite(state.params["w"]).all()
    assert len((tmp_path / "events.jsonl").read_text().splitlines()) == 3


def test_a_failed_save_stops_the_run(tmp_path, monkeypatch):
    def fails(self, *arguments, **named):
        raise OSError("No space left on device")

    monkeypatch.setattr("hicmae_jax.checkpoints.checksums.seal", fails)
    with pytest.raises(RuntimeError, match=r"step 4 was not saved: OSError: No space left on device"):
        run(tmp_path)


def test_a_failed_save_stops_the_run_before_the_next_save(tmp_path, monkeypatch):
    made, failed = [], threading.Event()

    def fails(*arguments):
        failed.set()
        raise OSError("No space left on device")

    monkeypatch.setattr("hicmae_jax.checkpoints.checksums.seal", fails)

    def step(state, batch):
        made.append(1)
        if len(made) > 4:  # otherwise all steps are made before the save is finished
            assert failed.wait(HANG)
            time.sleep(0.05)
        return step_function(state, batch)

    with pytest.raises(RuntimeError, match=r"step 4 was not saved: OSError: No space left on device"):
        run(tmp_path, total=100, step=step, intervals={"checkpoint": 4, "log": 1_000}, evaluations=())
    assert 4 < len(made) < 100
