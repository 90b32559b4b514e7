"""The training loop: any step function, any source of batches, any evaluation.

It reads top to bottom: what a loop needs, the steps, what is done now and then, and the clock. Nothing in it
waits for a result that is not two steps old, so that the devices always have work; what is logged is fetched
when the next line is due.
"""

import collections
import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
from tqdm import tqdm

from hicmae_jax.checkpoints.manager import Checkpoints, Record
from hicmae_jax.logs.metrics import MetricsLog
from hicmae_jax.runs.clock import Clock, Work
from hicmae_jax.supervision.signals import Stopped
from hicmae_jax.supervision.supervisor import StepInFlight, Supervisor
from hicmae_jax.training.accumulation import Batch
from hicmae_jax.training.state import TrainState
from hicmae_jax.training.step import TrainStep

Evaluate = Callable[[Any], Mapping[str, float]]

STEPS_IN_FLIGHT = 2
"""Steps that the host may be ahead of the devices: enough to keep them busy, few enough to hold in memory."""


# --- What a loop needs --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Intervals:
    """When things are done besides training, in steps; all of them also after the last step.

    Attributes:
        log: from one line of metrics to the next.
        checkpoint: from one checkpoint to the next.
        evaluate: from one evaluation to the next; None for one at the end.
        profile: steps to profile; empty for none.
    """

    log: int
    checkpoint: int
    evaluate: int | None = None
    profile: range = range(0)


# --- The steps ----------------------------------------------------------------------------------------------


def train(
    state: TrainState,
    train_step: TrainStep,
    batches: Iterator[Batch],
    *,
    first_step: int,
    total_steps: int,
    work: Work,
    intervals: Intervals,
    log: MetricsLog,
    checkpoints: Checkpoints,
    record: Record,
    supervisor: Supervisor,
    evaluate: Evaluate | None = None,
    profile_directory: str = "",
    show_progress: bool = True,
) -> TrainState:
    """Train from `first_step` to `total_steps`, and leave a checkpoint of the end.

    Args:
        state: after `first_step` updates; donated.
        train_step: (state, batch) → (next state, metrics on the devices); see `Supervisor.step_started` for
            what metrics and batches must have.
        batches: on the devices, from the batch of `first_step` on.
        first_step: updates made so far.
        total_steps: updates to have made at the end.
        work: what a step amounts to.
        intervals: when to log, evaluate, save and profile.
        log: where metrics go.
        checkpoints: where states go.
        record: what to save beside a state.
        supervisor: what to save and end for besides.
        evaluate: parameters → scores.
        profile_directory: where a profile goes.
        show_progress: whether to draw a progress bar, on one process only.

    Returns:
        The last state.

    Raises:
        Stopped: by a signal, with the state saved.
        RuntimeError: a checkpoint was not saved; or no update can be made any more, with the state saved.
        OSError: no clip can be read any more.
    """
    clock = Clock(work)
    unwritten: list[tuple[int, dict[str, Any]]] = []
    in_flight: collections.deque[StepInFlight] = collections.deque()
    ending: BaseException | None = None
    unread: Exception | None = None

    def finish(steps_left: int) -> None:
        """Wait for the oldest steps until no more than so many are left."""
        nonlocal ending
        while len(in_flight) > steps_left:
            with clock.waiting("device"), supervisor.stage("device"):
                jax.block_until_ready(in_flight[0].numbers)
            # Of several reasons the first.
            reason = supervisor.step_finished(in_flight.popleft())
            ending = ending or reason

    def save(made: int) -> None:
        # Before the state they belong to: a run resumed from it does not make them again.
        _write(log, unwritten, bar)
        with clock.paused(), supervisor.stage("checkpoint"):
            checkpoints.save(made, state, record)

    bar = tqdm(total=total_steps, initial=first_step, unit="step", disable=not show_progress, smoothing=0.05)
    profiling = contextlib.ExitStack()
    supervisor.start()
    with bar, profiling:
        for step in range(first_step, total_steps):
            if intervals.profile and step == intervals.profile[0]:
                profiling.enter_context(jax.profiler.trace(profile_directory))

            # An array that crosses between host and device unasked would stall every step: an error here.
            with jax.transfer_guard("disallow"):
                try:
                    with clock.waiting("input"), supervisor.stage("input"):
                        batch = next(batches)
                except (OSError, RuntimeError) as error:
                    # Other processes wait for this one's part of the step, and cannot save.
                    if jax.process_count() > 1 or isinstance(error, jax.errors.JaxRuntimeError):
                        raise
                    unread = error
                    break
                with supervisor.stage("compilation") if step == first_step else contextlib.nullcontext():
                    state, metrics = train_step(state, batch)
            made, last = step + 1, step + 1 == total_steps
            in_flight.append(supervisor.step_started(made, metrics, batch, checkpoints.has_failed()))
            finish(STEPS_IN_FLIGHT)
            if step == first_step:
                bar.unpause()  # what it took to compile says nothing of the time left
            bar.update()

            if intervals.profile and step == intervals.profile[-1]:
                finish(0)
                profiling.close()
            if made % intervals.log == 0 or last:
                with supervisor.stage("log"):
                    _write(log, unwritten, bar)
                unwritten = [(made, {**metrics, **clock.lap(made)})]
            evaluated = evaluate and (last or (intervals.evaluate and made % intervals.evaluate == 0))
            saved = last or made % intervals.checkpoint == 0
            if evaluated or saved or ending:
                finish(0)  # what the steps still take is no pause
            if evaluated:
                _write(log, unwritten, bar)
                with clock.paused(), supervisor.stage("evaluation"):
                    log.write(made, evaluate(state.params))
            if saved or (ending and _is_new(state, made - first_step)):
                save(made)
            if ending:
                break
        if unread:
            finish(0)
            if checkpoints.latest_step() != step and _is_new(state, step - first_step):
                save(step)
        with supervisor.stage("checkpoint"):
            checkpoints.wait()
    if unread:
        raise unread
    if isinstance(ending, Stopped):
        if made < total_steps:
            raise Stopped(ending.signal, made)
    elif ending:
        raise ending
    return state


# --- Now and then -------------------------------------------------------------------------------------------


def _is_new(state: TrainState, steps: int) -> bool:
    """Whether one of the last steps has made an update; if not, the last checkpoint holds the state."""
    return int(jax.device_get(state.skipped_in_row)) < steps


def _write(log: MetricsLog, unwritten: list[tuple[int, dict[str, Any]]], bar: tqdm) -> None:
    """Fetch and write what waits to be logged; waits for the steps that it is of."""
    for made, values in unwritten:
        values = {name: float(value) for name, value in jax.device_get(values).items()}
        log.write(made, values)
        bar.set_postfix(loss=f"{values['loss/total']:.4f}", refresh=False)
    unwritten.clear()
