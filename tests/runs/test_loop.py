"""The loop, with a step of one multiplication: what is done when, and what an signals leaves."""

import contextlib
import json
import signal
import threading
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hicmae_jax.checkpoints.manager import Checkpoints
from hicmae_jax.logs.events import Events
from hicmae_jax.logs.metrics import MetricsLog, read_metrics
from hicmae_jax.runs import clock as clocks
from hicmae_jax.runs import loop
from hicmae_jax.runs.clock import Clock, Work
from hicmae_jax.runs.loop import Intervals
from hicmae_jax.supervision.loss_guard import LossGuard
from hicmae_jax.supervision.signals import Stopped, StopSignals
from hicmae_jax.supervision.supervisor import Supervisor
from hicmae_jax.training import sharding
from hicmae_jax.training.chips import peak_flops
from hicmae_jax.training.state import TrainState
from tests.support.processes import HANG
from tests.support.real_runs import lines_without_times

RECORD = {"config": {}, "versions": {}, "data": {}}
WORK = Work(clips=4, flops=1e9)


@jax.jit
def step_function(state, batch):
    params = {"w": state.params["w"] * 1.01 + batch["x"].mean()}
    in_row = jnp.where(jnp.isfinite(params["w"]).all(), 0, state.skipped_in_row + 1)
    after = state.replace(
        step=state.step + 1,
        params=jax.tree.map(lambda new, old: jnp.where(in_row, old, new), params, state.params),
        skipped_in_row=in_row,
    )
    metrics = {"loss/total": jnp.square(params["w"]).sum(), "norm/update": params["w"][0]}
    return after, metrics | {"skipped_in_row": in_row}


def first_state():
    params = {"w": jnp.arange(3, dtype=jnp.float32)}
    counts = dict.fromkeys(("step", "replaced", "skipped", "skipped_in_row"), jnp.int32(0))
    return TrainState(params=params, opt_state=(), **counts)


def batches(first_step, stop=None, at=None, bad=()):
    """A batch for every step, until the disk fails at `stop`; something may happen at a step."""
    for step in range(first_step, 1_000):
        if step == stop:
            raise OSError(f"step {step}: no clip can be read any more")
        if at and step in at:
            at[step]()
        x = np.random.default_rng(step).random(4, np.float32)
        yield jax.device_put({"x": x * np.nan if step in bad else x, "example": np.array([step, 0, 0, 0])})


class Unwatched:
    """In place of a watchdog."""

    def stage(self, name):
        return contextlib.nullcontext()

    def step(self, made):
        pass


def scores(params):
    return {"held_out/w": float(jax.device_get(params["w"])[0])}


def run(directory, total=12, step=step_function, signals=None, skips=3, data=None, **choices):
    """Train as a run does: from its last checkpoint, or from the beginning."""
    signals = signals or StopSignals()
    guard = LossGuard(Events(directory), skips=skips, spike=1e9)
    intervals = {"log": 2, "checkpoint": 4, "evaluate": 3} | choices.pop("intervals", {})
    with Checkpoints(directory, keep=10) as checkpoints:
        first = checkpoints.latest_step()
        state = first_state() if first is None else checkpoints.restore(first_state())
        with MetricsLog(directory, first) as log:
            return loop.train(
                state,
                step,
                batches(first or 0, **data or {}),
                first_step=first or 0,
                total_steps=total,
                work=WORK,
                intervals=Intervals(**intervals),
                log=log,
                checkpoints=checkpoints,
                record=RECORD,
                supervisor=Supervisor(sharding.make_mesh(), signals, guard, Unwatched()),
                evaluate=choices.pop("evaluate", scores),
                show_progress=False,
                **choices,
            )


def saved_steps(directory):
    return sorted(int(path.name) for path in (directory / "checkpoints").iterdir())


# --- What is done when --------------------------------------------------------------------------------------


@pytest.fixture
def events(monkeypatch):
    """What the log and the checkpoints are given, in its order."""
    found = []
    write, save = MetricsLog.write, Checkpoints.save

    def writes(self, step, values):
        found.append(("scores" if "held_out/w" in values else "line", step))
        write(self, step, values)

    def saves(self, step, state, record):
        found.append(("save", step))
        save(self, step, state, record)

    monkeypatch.setattr(MetricsLog, "write", writes)
    monkeypatch.setattr(Checkpoints, "save", saves)
    return found


def test_each_thing_is_done_at_its_intervals_and_after_the_last_step(tmp_path, events):
    run(tmp_path, total=7)
    assert events == [
        *[("line", 2), ("scores", 3)],
        *[("line", 4), ("save", 4)],
        *[("line", 6), ("scores", 6)],
        *[("line", 7), ("scores", 7), ("save", 7)],
    ]


def test_lines_are_in_the_file_before_the_checkpoint_that_would_skip_them(tmp_path, monkeypatch):
    in_file = {}
    save = Checkpoints.save

    def saves(self, step, state, record):
        in_file[step] = [line["step"] for line in read_metrics(tmp_path)]
        save(self, step, state, record)

    monkeypatch.setattr(Checkpoints, "save", saves)
    run(tmp_path, total=6, intervals={"log": 1, "checkpoint": 2, "evaluate": 2})
    assert in_file == {2: [1, 2, 2], 4: [1, 2, 2, 3, 4, 4], 6: [1, 2, 2, 3, 4, 4, 5, 6, 6]}


def test_without_intervals_there_is_one_evaluation_at_the_end(tmp_path, events):
    run(tmp_path, total=5, intervals={"log": 100, "checkpoint": 100, "evaluate": None})
    assert events == [("line", 5), ("scores", 5), ("save", 5)]


def test_without_an_evaluation_nothing_is_scored(tmp_path, events):
    run(tmp_path, total=4, evaluate=None)
    assert [event for event in events if event[0] == "scores"] == []


def test_every_number_is_of_its_step(tmp_path):
    state = run(tmp_path, total=5, intervals={"log": 1})
    expected, w = [], np.arange(3, dtype=np.float32)
    for step in range(5):
        w = w * np.float32(1.01) + next(batches(step))["x"].mean()
        expected.append(np.square(w).sum())
    lines = [line for line in read_metrics(tmp_path) if "loss/total" in line]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    np.testing.assert_allclose([line["loss/total"] for line in lines], expected, rtol=1e-6)
    np.testing.assert_allclose(state.params["w"], w, rtol=1e-6)
    with Checkpoints(tmp_path) as checkpoints:
        jax.tree.map(np.testing.assert_array_equal, checkpoints.restore(first_state()), state)


def test_the_host_is_two_steps_ahead_and_no_more(tmp_path):
    order = []

    class Pending:
        """A metric that the device has not finished."""

        def __init__(self, step):
            self.step = step

        def block_until_ready(self):
            order.append(("waited for", self.step))

        def __array__(self, *_, **__):
            return np.float32(0)

    def step(state, batch):
        order.append(("began", len(order) - sum(what != "began" for what, _ in order)))
        return state, {"loss/total": Pending(order[-1][1]), "skipped_in_row": np.int32(0)}

    run(tmp_path, total=5, step=step, intervals={"log": 100, "checkpoint": 100, "evaluate": None})
    assert order == [
        *[("began", 0), ("began", 1)],
        *[("began", 2), ("waited for", 0)],
        *[("began", 3), ("waited for", 1)],
        *[
            ("began", 4),
            ("waited for", 2),
            ("waited for", 3),
            ("waited for", 4),
        ],  # all, before the last is saved
    ]


# --- Interruptions ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that is never interrupted: its directory and last state."""
    directory = tmp_path_factory.mktemp("whole")
    return directory, run(directory)


@pytest.mark.parametrize("stops", [(1,), (4,), (5, 6), (3, 11), (8, 9, 10)], ids=str)
def test_a_run_that_goes_on_writes_what_one_never_stopped_does(whole, tmp_path, stops):
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


def test_an_error_of_the_data_loses_no_step(tmp_path):
    with pytest.raises(OSError, match="step 7: no clip"):
        run(tmp_path, data={"stop": 7})
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step() == 7
        saved = checkpoints.restore(first_state())
    expected = run(tmp_path / "short", total=7)
    jax.tree.map(np.testing.assert_array_equal, saved, expected)


def stopped_at(step, directory, kind=signal.SIGTERM, **choices):
    """A run that is asked to stop while it reads the batch of a step."""
    signals = StopSignals()
    ask = {step: lambda: setattr(signals, "requested", kind)}
    with pytest.raises(Stopped) as stopped:
        run(directory, signals=signals, data={"at": ask}, **choices)
    return stopped.value


@pytest.mark.parametrize(
    ("step", "saved"),
    # Two steps after the one that was being made, or when the host waits for the devices anyway.
    [(0, 3), (1, 3), (3, 4), (4, 6), (6, 8), (8, 9)],
)
def test_a_run_that_is_asked_to_stop_saves_and_goes_on(whole, tmp_path, step, saved):
    stopped = stopped_at(step, tmp_path)
    assert (stopped.signal, stopped.step) == (signal.SIGTERM, saved)
    assert saved_steps(tmp_path)[-1] == stopped.step
    state = run(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, state, whole[1])
    assert lines_without_times(tmp_path) == lines_without_times(whole[0])


def test_a_run_that_is_asked_to_stop_at_its_end_just_ends(whole, tmp_path):
    signals = StopSignals()
    ask = {11: lambda: setattr(signals, "requested", signal.SIGINT)}
    state = run(tmp_path, signals=signals, data={"at": ask})
    jax.tree.map(np.testing.assert_array_equal, state, whole[1])


def test_a_run_that_was_asked_to_stop_before_it_trains_does_not_begin(tmp_path):
    signals = StopSignals()
    signals.requested = signal.SIGTERM
    with pytest.raises(Stopped, match="SIGTERM with nothing new to save"):
        run(tmp_path, signals=signals)
    assert saved_steps(tmp_path) == []


def test_a_run_that_can_make_no_update_ends_with_the_last_good_state(tmp_path):
    with pytest.raises(RuntimeError, match="3 updates in a row, up to step 8, had a loss or gradient"):
        run(tmp_path, data={"bad": range(5, 20)})
    expected = run(tmp_path / "short", total=5)
    with Checkpoints(tmp_path) as checkpoints:
        saved = checkpoints.restore(first_state())
    assert saved.params["w"].tolist() == expected.params["w"].tolist()
    assert saved.step == saved_steps(tmp_path)[-1] == 8
    events = map(json.loads, (tmp_path / "events.jsonl").read_text().splitlines())
    assert [event["examples"][0] for event in events] == [5, 6, 7]


def test_runs_that_make_no_update_save_nothing_over_older_checkpoints(tmp_path):
    for _ in range(3):
        with pytest.raises(RuntimeError, match="updates in a row"):
            run(tmp_path, data={"bad": range(5, 20)})
    assert saved_steps(tmp_path) == [4, 8]


def test_a_run_goes_on_over_updates_that_are_skipped(tmp_path):
    state = run(tmp_path, data={"bad": (3, 4, 9)})
    assert np.isfinite(state.params["w"]).all()
    assert len((tmp_path / "events.jsonl").read_text().splitlines()) == 3


def test_a_save_that_fails_stops_the_run(tmp_path, monkeypatch):
    def fails(self, *arguments, **named):
        raise OSError("No space left on device")

    monkeypatch.setattr("hicmae_jax.checkpoints.checksums.seal", fails)
    with pytest.raises(RuntimeError, match=r"step 4 was not saved: OSError: No space left on device"):
        run(tmp_path)


def test_a_save_that_fails_is_noticed_before_the_next(tmp_path, monkeypatch):
    made, failed = [], threading.Event()

    def fails(*arguments):
        failed.set()
        raise OSError("No space left on device")

    monkeypatch.setattr("hicmae_jax.checkpoints.checksums.seal", fails)

    def step(state, batch):
        made.append(1)
        if len(made) > 4:  # or all steps are over before the save is
            assert failed.wait(HANG)
            time.sleep(0.05)
        return step_function(state, batch)

    with pytest.raises(RuntimeError, match=r"step 4 was not saved: OSError: No space left on device"):
        run(tmp_path, total=100, step=step, intervals={"checkpoint": 4, "evaluate": 1_000} | {"log": 1_000})
    assert 4 < len(made) < 100


def test_a_transfer_that_nobody_asked_for_is_an_error(tmp_path):
    def leaky(state, batch):
        return step_function(state, batch | {"x": batch["x"] + np.ones(4, np.float32)})

    with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-device transfer"):
        run(tmp_path, step=leaky)


# --- Profile and clock --------------------------------------------------------------------------------------


def test_a_profile_is_written_when_it_is_asked_for(tmp_path):
    run(tmp_path / "without", total=3, profile_directory=str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()
    run(tmp_path / "with", total=6, intervals={"profile": range(2, 4)}, profile_directory=str(tmp_path / "p"))
    assert [path.stat().st_size > 0 for path in (tmp_path / "p").rglob("*.xplane.pb")] == [True]


def test_a_profile_that_outlasts_the_run_is_written_at_its_end(tmp_path):
    run(tmp_path, total=3, intervals={"profile": range(2, 9)}, profile_directory=str(tmp_path / "p"))
    assert list((tmp_path / "p").rglob("*.xplane.pb"))


@pytest.fixture
def now(monkeypatch):
    """A clock that the test sets."""
    now = types.SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(clocks, "time", types.SimpleNamespace(perf_counter=lambda: now.seconds))
    return now


def test_rates_are_of_training_alone(now):
    clock = Clock(WORK)
    now.seconds = 100.0  # compilation
    assert clock.lap(10) == {}
    with clock.waiting("input"):
        now.seconds += 2
    now.seconds += 5
    with clock.waiting("device"):
        now.seconds += 1
    with clock.paused():
        now.seconds += 1_000
    assert clock.lap(14) == {
        "time/step_seconds": 2.0,
        "time/clips_per_second": 2.0,
        "time/model_flops_per_second": 2e9,
        "time/input_wait_share": 0.25,
        "time/device_wait_share": 0.125,
    }
    now.seconds += 3
    again = clock.lap(15)
    assert again["time/step_seconds"] == 3.0
    assert again["time/input_wait_share"] == 0


def test_the_share_of_the_peak_is_told_where_the_peak_is_known(now, monkeypatch):
    monkeypatch.setattr(clocks, "peak_flops", lambda device: 1e9)
    clock = Clock(WORK)
    clock.lap(1)
    now.seconds += 1
    assert clock.lap(2)["time/mfu"] == 4e9 / (1e9 * jax.device_count())


def test_only_the_first_line_has_no_times(tmp_path):
    run(tmp_path, total=6)
    lines = [line for line in read_metrics(tmp_path) if "loss/total" in line]
    timed = [[name for name in line if name.startswith("time/")] for line in lines]
    assert [len(names) for names in timed] == [0, 5, 5]
    assert lines[1]["time/clips_per_second"] * lines[1]["time/step_seconds"] == pytest.approx(4)
    assert "time/mfu" not in lines[1]  # nobody knows a CPU's peak


@pytest.mark.parametrize(
    ("kind", "peak"),
    [
        ("NVIDIA H200", 989e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("TPU v4", 275e12),
        ("TPU v5 lite", 197e12),
        ("TPU v5", 459e12),
        ("TPU v5p", 459e12),
        ("TPU v6 lite", 918e12),
        ("cpu", None),
    ],
)
def test_no_device_is_taken_for_another(kind, peak):
    assert peak_flops(types.SimpleNamespace(device_kind=kind)) == peak
