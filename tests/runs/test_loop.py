"""The loop with a toy step: what it does, in which order, and what it refuses."""

import jax
import numpy as np
import pytest

from data_pipeline.reading.named_sets import NamedSets
from hicmae_jax.checkpoints.best import BestBy
from hicmae_jax.checkpoints.load import find_step
from hicmae_jax.checkpoints.manager import Checkpoints
from hicmae_jax.logs.metrics import MetricsLog, read_metrics
from hicmae_jax.runs import loop
from hicmae_jax.runs.loop import Evaluation
from tests.support.toy_loop import HELD_OUT, batches, first_state, run, saved_steps, scores, step_function


@pytest.fixture
def events(monkeypatch):
    """The calls that the log and the checkpoints get, in order."""
    found = []
    write, save = MetricsLog.write, Checkpoints.save

    def writes(self, step, values):
        found.append(("line" if "loss/total" in values else next(iter(values)), step))
        write(self, step, values)

    def saves(self, step, *arguments):
        found.append(("save", step))
        save(self, step, *arguments)

    monkeypatch.setattr(MetricsLog, "write", writes)
    monkeypatch.setattr(Checkpoints, "save", saves)
    return found


def test_log_evaluation_and_checkpoint_have_intervals_and_come_after_the_last_step(tmp_path, events):
    run(tmp_path, total=7)
    assert events == [
        *[("line", 2), ("held_out/w", 3)],
        *[("line", 4), ("save", 4)],
        *[("line", 6), ("held_out/w", 6)],
        *[("line", 7), ("held_out/w", 7), ("save", 7)],
    ]


def test_every_evaluation_has_its_own_interval(tmp_path, events):
    others = [Evaluation("probe", 2, scores), Evaluation("last", None, scores)]
    run(tmp_path, total=5, evaluations=[HELD_OUT, *others], intervals={"log": 100})
    assert events == [
        *[("probe/w", 2), ("held_out/w", 3)],
        *[("probe/w", 4), ("save", 4)],
        *[("line", 5), ("held_out/w", 5), ("probe/w", 5), ("last/w", 5), ("save", 5)],
    ]


def test_checkpoints_for_branches_are_saved_beside_those_at_intervals(tmp_path, events):
    run(tmp_path, total=7, intervals={"checkpoint": 3, "branches": frozenset({1, 6})})
    assert [step for what, step in events if what == "save"] == [1, 3, 6, 7]


def test_an_evaluation_can_take_the_step(tmp_path):
    evaluation = Evaluation("picture", 3, lambda params, made: {"of": made}, takes_step=True)
    run(tmp_path, total=7, evaluations=[evaluation])
    lines = [line for line in read_metrics(tmp_path) if "picture/of" in line]
    assert [(line["step"], line["picture/of"]) for line in lines] == [(3, 3), (6, 6), (7, 7)]


def test_two_evaluations_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="evaluations held_out, held_out: each needs a name of its own"):
        run(tmp_path, evaluations=[HELD_OUT, HELD_OUT])


# --- The best checkpoint ---


def scores_of(values):
    """An evaluation that returns these scores, one at each call."""
    left = iter(values)
    return lambda params: {"accuracy": next(left)}


@pytest.mark.parametrize(
    ("mode", "values", "saved", "best"),
    [
        # Evaluated after steps 2, 4, 6 and 7; saved after 3, 6 and 7 in any case.
        ("max", [0.5, 0.7, 0.6, 0.1], [2, 3, 4, 6, 7], 4),
        ("max", [0.5, 0.5, float("nan"), 0.5], [2, 3, 6, 7], 2),
        ("min", [0.5, 0.7, 0.3, 0.3], [2, 3, 6, 7], 6),
    ],
)
def test_a_step_with_a_better_score_is_saved(tmp_path, mode, values, saved, best):
    evaluation = Evaluation("emotion", 2, scores_of(values))
    run(
        tmp_path,
        total=7,
        evaluations=[HELD_OUT, evaluation],
        intervals={"checkpoint": 3},
        best=BestBy("emotion/accuracy", mode),
    )
    assert saved_steps(tmp_path) == saved
    assert find_step(tmp_path, "best") == best


def test_the_best_step_stays_beside_the_last_ones_and_after_a_restart(tmp_path):
    def train(total, values):
        evaluation = Evaluation("emotion", 2, scores_of(values))
        best = BestBy("emotion/accuracy")
        run(tmp_path, total, evaluations=[evaluation], intervals={"checkpoint": 1}, best=best, keep=2)

    train(4, [0.9, 0.5])
    assert saved_steps(tmp_path) == [2, 3, 4]
    train(8, [0.8, 0.7])
    assert (saved_steps(tmp_path), find_step(tmp_path, "best")) == ([2, 7, 8], 2)
    train(10, [0.95])
    assert (saved_steps(tmp_path), find_step(tmp_path, "best")) == ([9, 10], 10)


def test_choosing_the_best_checkpoint_by_an_unknown_score_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match="chosen by emotion/accuracy, but the evaluations are held_out: give"
    ):
        run(tmp_path, best=BestBy("emotion/accuracy"))
    with pytest.raises(ValueError, match="chosen by held_out/accuracy, but held_out only scores held_out/w"):
        run(tmp_path, best=BestBy("held_out/accuracy"))


# --- What is logged ---


def test_metrics_are_written_before_the_checkpoint_of_their_step(tmp_path, monkeypatch):
    in_file = {}
    save = Checkpoints.save

    def saves(self, step, *arguments):
        in_file[step] = [line["step"] for line in read_metrics(tmp_path)]
        save(self, step, *arguments)

    monkeypatch.setattr(Checkpoints, "save", saves)
    evaluation = Evaluation("held_out", 2, scores)
    run(tmp_path, total=6, intervals={"log": 1, "checkpoint": 2}, evaluations=[evaluation])
    assert in_file == {2: [1, 2, 2], 4: [1, 2, 2, 3, 4, 4], 6: [1, 2, 2, 3, 4, 4, 5, 6, 6]}


def test_a_run_may_have_no_evaluation(tmp_path, events):
    run(tmp_path, total=4, evaluations=())
    assert events == [("line", 2), ("line", 4), ("save", 4)]


def test_every_logged_number_belongs_to_its_step(tmp_path):
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


def test_a_line_has_the_share_of_each_set_in_its_step(tmp_path):
    def step(state, batch):
        after, metrics = step_function(state, batch)
        return after, metrics | {f"loss/video/{name}": metrics["loss/total"] for name in ("few", "many")}

    run(tmp_path, total=7, step=step, sets=NamedSets(("few", "many"), (0, 3)))
    lines = [line for line in read_metrics(tmp_path) if "loss/total" in line]
    found = {
        line["step"]: tuple(line.get(name) for name in ("data/share/few", "data/share/many"))
        for line in lines
    }
    # The clips of update n are n - 1, 0, 0 and 0.
    assert found == {2: (1, 0), 4: (0.75, 0.25), 6: (0.75, 0.25), 7: (0.75, 0.25)}
    # A set without a clip has no loss.
    assert all("loss/video/few" in line for line in lines)
    assert [line["step"] for line in lines if "loss/video/many" in line] == [4, 6, 7]


def test_a_run_of_one_set_has_no_shares(tmp_path):
    run(tmp_path, total=2)
    assert not any("data/share" in name for line in read_metrics(tmp_path) for name in line)


# --- Steps ---


def test_the_host_is_at_most_two_steps_ahead(tmp_path):
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

    run(tmp_path, total=5, step=step, evaluations=(), intervals={"log": 100, "checkpoint": 100})
    assert order == [
        *[("began", 0), ("began", 1)],
        *[("began", 2), ("waited for", 0)],
        *[("began", 3), ("waited for", 1)],
        # The host waits for all steps before it saves the last state.
        *[("began", 4), ("waited for", 2), ("waited for", 3), ("waited for", 4)],
    ]


def test_an_unintended_transfer_between_host_and_device_is_an_error(tmp_path):
    def leaky(state, batch):
        return step_function(state, batch | {"x": batch["x"] + np.ones(4, np.float32)})

    with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-device transfer"):
        run(tmp_path, step=leaky)


# --- Profile and times ---


def test_a_requested_profile_is_written(tmp_path):
    run(tmp_path / "without", total=3, profile_directory=str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()
    run(tmp_path / "with", total=6, intervals={"profile": range(2, 4)}, profile_directory=str(tmp_path / "p"))
    assert [path.stat().st_size > 0 for path in (tmp_path / "p").rglob("*.xplane.pb")] == [True]


def test_a_profile_longer_than_the_run_is_written_at_its_end(tmp_path):
    run(tmp_path, total=3, intervals={"profile": range(2, 9)}, profile_directory=str(tmp_path / "p"))
    assert list((tmp_path / "p").rglob("*.xplane.pb"))


def test_every_line_but_the_first_has_times(tmp_path):
    run(tmp_path, total=6)
    lines = [line for line in read_metrics(tmp_path) if "loss/total" in line]
    timed = [[name for name in line if name.startswith("time/")] for line in lines]
    assert [len(names) for names in timed] == [0, 6, 6]
    assert lines[1]["time/clips_per_second"] * lines[1]["time/step_seconds"] == pytest.approx(4)
    assert all(0 < line["time/evaluation_share"] < 1 for line in lines[1:])
    evaluated = [line for line in read_metrics(tmp_path) if "held_out/w" in line]
    assert all(line["time/evaluation_seconds"] > 0 for line in evaluated)
    assert "time/mfu" not in lines[1]  # the peak rate of a CPU is not known


# --- Saving by time ---


def test_a_checkpoint_is_saved_when_the_last_one_is_old(tmp_path, events, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])

    def tick():
        now[0] += 60.0

    # A minute passes before each of these steps. It shows when the devices have finished the step after it.
    run(
        tmp_path,
        total=30,
        data={"at": dict.fromkeys((5, 6, 7, 20), tick)},
        intervals={"checkpoint": 1000, "minutes": 3.0},
    )
    assert [step for what, step in events if what == "save"] == [10, 30]
    assert saved_steps(tmp_path) == [10, 30]


def test_without_minutes_no_time_is_too_long(tmp_path, events, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])
    run(
        tmp_path,
        total=12,
        data={"at": {5: lambda: now.__setitem__(0, 1e9)}},
        intervals={"checkpoint": 1000},
    )
    assert [step for what, step in events if what == "save"] == [12]
