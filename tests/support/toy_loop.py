"""A toy for the loop: a step of one multiplication, a batch for every step, and a run of them."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np

from hicmae_jax.checkpoints.manager import Checkpoints
from hicmae_jax.logs.events import Events
from hicmae_jax.logs.metrics import MetricsLog
from hicmae_jax.runs.clock import Work
from hicmae_jax.runs.loop import Evaluation, Intervals, Loop
from hicmae_jax.supervision.loss_guard import LossGuard
from hicmae_jax.supervision.signals import StopSignals
from hicmae_jax.supervision.supervisor import Supervisor
from hicmae_jax.training import sharding
from hicmae_jax.training.state import TrainState

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
    """A batch for every step, until the disk fails at `stop`; `at` has functions to call at steps."""
    for step in range(first_step, 1_000):
        if step == stop:
            raise OSError(f"step {step}: no clip can be read any more")
        if at and step in at:
            at[step]()
        x = np.random.default_rng(step).random(4, np.float32)
        yield jax.device_put({"x": x * np.nan if step in bad else x, "example": np.array([step, 0, 0, 0])})


class NoWatchdog:
    """Takes the calls that a watchdog gets."""

    def stage(self, name):
        return contextlib.nullcontext()

    def step(self, made):
        pass

    def spent(self):
        return {}


def scores(params):
    return {"w": float(jax.device_get(params["w"])[0])}


HELD_OUT = Evaluation("held_out", 3, scores)


def run(
    directory,
    total=12,
    step=step_function,
    signals=None,
    skips=3,
    data=None,
    evaluations=(HELD_OUT,),
    intervals=None,
    best=None,
    keep=10,
    **choices,
):
    """Train as a run does: from its last checkpoint, or from the beginning."""
    guard = LossGuard(Events(directory), skips=skips, spike=1e9)
    supervisor = Supervisor(sharding.make_mesh(), signals or StopSignals(), guard, NoWatchdog())
    with Checkpoints(directory, keep=keep, best=best) as checkpoints:
        first = checkpoints.latest_step()
        state = first_state() if first is None else checkpoints.restore(first_state())
        with MetricsLog(directory, first) as log:
            loop = Loop(
                step,
                work=WORK,
                intervals=Intervals(**{"log": 2, "checkpoint": 4} | (intervals or {})),
                log=log,
                checkpoints=checkpoints,
                record=RECORD,
                supervisor=supervisor,
                evaluations=evaluations,
                show_progress=False,
                **choices,
            )
            given = batches(first or 0, **data or {})
            return loop.run(state, given, first_step=first or 0, total_steps=total)


def saved_steps(directory):
    return sorted(int(path.name) for path in (directory / "checkpoints").iterdir())
