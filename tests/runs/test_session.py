"""A session runs another kind of training: a linear model, synthetic data, its own evaluation."""

import contextlib
import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hicmae_jax.checkpoints.best import BestBy
from hicmae_jax.checkpoints.load import find_step, load_parameters
from hicmae_jax.hosts import agreement
from hicmae_jax.logs.metrics import read_metrics
from hicmae_jax.runs.clock import Work
from hicmae_jax.runs.in_use import Hold
from hicmae_jax.runs.loop import Evaluation
from hicmae_jax.runs.session import Session
from hicmae_jax.settings.sections import CheckpointConfig, FaultsConfig, LogConfig
from hicmae_jax.training import accumulation, sharding
from hicmae_jax.training import state as train_state
from hicmae_jax.training.step import make_train_step
from tests.support.corpus_fixtures import tree
from tests.support.real_runs import lines_without_times

STEPS = 6
CHECKPOINT, LOG, FAULTS = CheckpointConfig(every=2, keep=1), LogConfig(every=1), FaultsConfig()
TRUE = np.arange(8, dtype=np.float32).reshape(4, 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToySettings:
    """Settings of a run that knows nothing of HiCMAE."""

    rate: float = 0.3
    seed: int = 0
    checkpoint: CheckpointConfig = CHECKPOINT
    log: LogConfig = LOG
    faults: FaultsConfig = FAULTS

    def to_dict(self):
        return dataclasses.asdict(self)

    def as_text(self):
        return f"rate  {self.rate}"


def initialise(key):
    return {"linear": {"kernel": jax.random.normal(key, TRUE.shape), "bias": jnp.zeros(2)}}


def loss(params, batch, step):
    predicted = batch["x"] @ params["linear"]["kernel"] + params["linear"]["bias"]
    total = jnp.square(predicted - batch["y"]).mean()
    return total, {"total": total}


@contextlib.contextmanager
def open_batches(first_step, stop):
    """Eight rows for every step, until the disk fails at `stop`."""

    def batches():
        for step in range(first_step, 1_000):
            if step == stop:
                raise OSError(f"step {step}: nothing can be read any more")
            x = np.random.default_rng(step).random((8, 4), np.float32)
            yield {"x": x, "y": x @ TRUE, "example": np.arange(8), "replaced": np.zeros(8, np.int32)}

    yield batches()


def error(params):
    return {"kernel": float(np.abs(jax.device_get(params["linear"]["kernel"]) - TRUE).mean())}


def run(directory, settings=ToySettings(), stop=None, data="0f0f", steps=STEPS):
    """All the code that another kind of run needs."""
    with Session(settings, directory, show_progress=False) as session:
        with agreement.all_or_none():
            mesh = sharding.make_mesh(fsdp=2)
        session.check_inputs({"toy": data})
        if session.resume(steps, best=BestBy("error/kernel", "min")):
            return None
        stream = session.open_logs(functools.partial(open_batches, stop=stop))
        schedule = optax.constant_schedule(settings.rate)
        optimizer = optax.adam(settings.rate)
        abstract = train_state.abstract_state(initialise, optimizer, mesh, scanned=False)
        key = jax.random.key(settings.seed)
        create = functools.partial(train_state.create, initialise, optimizer, abstract, key)
        state = session.restore_or_create(abstract, create)
        step = make_train_step(accumulation.whole_batch(loss), optimizer, schedule, abstract, mesh)
        where = sharding.batch_sharding(mesh)
        return session.train(
            step,
            state,
            (jax.device_put(batch, where) for batch in stream),
            mesh=mesh,
            work=Work(clips=8, flops=16.0),
            evaluations=[Evaluation("error", 3, error)],
        )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run: its directory and last state."""
    directory = tmp_path_factory.mktemp("whole") / "run"
    return directory, run(directory)


def events_of(directory):
    return [json.loads(line)["event"] for line in (directory / "events.jsonl").read_text().splitlines()]


def test_a_run_leaves_settings_metrics_events_and_checkpoints(whole):
    directory, state = whole
    expected = ["checkpoints", "config.json", "events.jsonl", "metrics.jsonl", "versions.json"]
    assert sorted(path.name for path in directory.iterdir()) == expected
    # JSON has lists instead of tuples.
    assert json.loads((directory / "config.json").read_text()) == json.loads(
        json.dumps(ToySettings().to_dict())
    )
    assert events_of(directory) == ["starting", "started", "finished"]
    lines = read_metrics(directory)
    assert [line["step"] for line in lines if "loss/total" in line] == [1, 2, 3, 4, 5, 6]
    errors = [line["error/kernel"] for line in lines if "error/kernel" in line]
    assert errors[1] < errors[0]  # the model learns
    params, record = load_parameters(directory, "best")
    jax.tree.map(np.testing.assert_array_equal, params, state.params)
    assert record["score"] == {"name": "error/kernel", "mode": "min", "value": errors[1]}


@pytest.mark.parametrize("stop", [3, 5])
def test_a_resumed_run_ends_as_an_uninterrupted_one(whole, tmp_path, capsys, stop):
    directory = tmp_path / "run"
    with pytest.raises(OSError, match=f"step {stop}: nothing can be read any more"):
        run(directory, stop=stop)
    assert find_step(directory, "best") == 3
    state = run(directory)
    assert f"going on    from step {stop} of 6" in capsys.readouterr().out
    jax.tree.map(np.testing.assert_array_equal, state, whole[1])
    assert lines_without_times(directory) == lines_without_times(whole[0])
    assert events_of(directory) == ["starting", "started", "stopped", "starting", "started", "finished"]


def test_a_finished_run_is_not_touched(whole, capsys):
    before = tree(whole[0])
    assert run(whole[0]) is None
    assert "finished    already" in capsys.readouterr().out
    assert tree(whole[0]) == before


def test_a_run_does_not_go_on_with_other_batches(whole):
    before = tree(whole[0])
    with pytest.raises(ValueError, match=r"seed is 0 in the checkpoint, 1 in the config.*--allow_changes"):
        run(whole[0], ToySettings(seed=1), steps=9)
    with pytest.raises(ValueError, match="the data are 0f0f in the checkpoint, 1e1e now"):
        run(whole[0], data="1e1e", steps=9)
    assert tree(whole[0]) == before


def test_a_refused_start_removes_nothing_and_a_resumed_one_what_a_killed_save_has_left(tmp_path):
    directory = tmp_path / "run"
    with pytest.raises(OSError, match="nothing can be read any more"):
        run(directory, stop=3)
    (directory / "checkpoints/4.partial/state").mkdir(parents=True)
    (directory / "checkpoints/1.removed").mkdir()
    before = tree(directory)
    with pytest.raises(ValueError, match="seed is 0 in the checkpoint, 1 in the config"):
        run(directory, ToySettings(seed=1))
    with Hold(directory), pytest.raises(ValueError, match="is in use by process"):
        run(directory)
    assert tree(directory) == before
    assert (directory / "checkpoints/1.removed").exists()
    run(directory)
    assert sorted(path.name for path in (directory / "checkpoints").iterdir()) == ["6"]


def test_a_refused_start_moves_no_damaged_checkpoint_away(tmp_path):
    directory = tmp_path / "run"
    settings = ToySettings(checkpoint=CheckpointConfig(every=2, keep=9))
    run(directory, settings)
    (directory / "checkpoints/6/record.json").write_text("{}")
    before = tree(directory)
    with pytest.raises(ValueError, match="seed is 0 in the checkpoint, 1 in the config"):
        run(directory, dataclasses.replace(settings, seed=1))
    assert tree(directory) == before
    run(directory, settings)
    assert (directory / "damaged_checkpoints/6").exists()
    assert events_of(directory) == [
        *("starting", "started", "finished"),
        *("damaged checkpoint", "starting", "started", "finished"),
    ]
