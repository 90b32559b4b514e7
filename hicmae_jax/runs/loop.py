"""The training loop, for any update function, any source of batches and any evaluations.

The host starts steps ahead of the devices, so that the devices always have work. It reads the numbers of a
step two steps later, and fetches the metrics of a line of the log when the next line is due.
"""

import collections
import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
from tqdm import tqdm

from data_pipeline.reading.named_sets import NamedSets
from hicmae_jax.checkpoints.manager import Checkpoints, Record
from hicmae_jax.logs import ledger
from hicmae_jax.logs.metrics import MetricsLog
from hicmae_jax.runs.by_set import with_shares
from hicmae_jax.runs.clock import Clock, Work
from hicmae_jax.supervision.signals import Stopped
from hicmae_jax.supervision.supervisor import StepInFlight, Supervisor
from hicmae_jax.training.accumulation import Batch
from hicmae_jax.training.state import TrainState
from hicmae_jax.training.step import Metrics, TrainStep

STEPS_IN_FLIGHT = 2
"""Steps that the host may be ahead of the devices: enough to keep them busy, few enough to hold in memory."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Scores of the parameters, computed while a run trains and after its last step.

    Attributes:
        name: name of the evaluation; a score `s` is logged as `name/s`.
        every: steps between two evaluations; None for only one, after the last step.
        function: parameters → scores. Every process calls it and must get the same scores.
        takes_step: whether the function takes the number of updates made, too, for the name of a file.
    """

    name: str
    every: int | None
    function: Callable[..., Mapping[str, float]]
    takes_step: bool = False

    def scores(self, params: Any, made: int) -> dict[str, float]:
        """Name in the log → score of these parameters, after so many updates."""
        found = self.function(params, made) if self.takes_step else self.function(params)
        return {f"{self.name}/{score}": value for score, value in found.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Intervals:
    """When the loop logs, saves and profiles; it also logs and saves after the last step.

    Attributes:
        log: steps between two lines of metrics.
        checkpoint: steps between two checkpoints.
        minutes: age of the last checkpoint, in minutes, at which the next is saved; None for no limit.
        branches: further steps at which to save.
        profile: the steps to profile; empty for no profile.
    """

    log: int
    checkpoint: int
    minutes: float | None = None
    branches: frozenset[int] = frozenset()
    profile: range = range(0)


class Loop:
    """Trains a state, and logs, evaluates and saves it at its intervals.

    Args:
        train_step: (state, batch) → (next state, metrics on the devices). The metrics have `loss/total` and
            `skipped_in_row`, and the batch has `example` (see `Supervisor.step_started`).
        work: the work of one step, for the rates in the log.
        intervals: when to log, save and profile.
        log: takes the metrics and the scores.
        checkpoints: takes the states. If it keeps the best, a step with a better score is saved too.
        record: saved beside each state.
        supervisor: says when the run must stop.
        evaluations: evaluations with different names.
        profile_directory: where the profile is written.
        show_progress: whether to draw a progress bar; only on one process.
        sets: the sets whose shares are logged; None for none.

    Raises:
        ValueError: two evaluations have one name, or no evaluation gives the score of the best checkpoint.
    """

    def __init__(
        self,
        train_step: TrainStep,
        *,
        work: Work,
        intervals: Intervals,
        log: MetricsLog,
        checkpoints: Checkpoints,
        record: Record,
        supervisor: Supervisor,
        evaluations: Sequence[Evaluation] = (),
        profile_directory: str = "",
        show_progress: bool = True,
        sets: NamedSets | None = None,
    ) -> None:
        _check_names(evaluations, checkpoints)
        self._train_step = train_step
        self._work = work
        self._intervals = intervals
        self._log = log
        self._checkpoints = checkpoints
        self._record = record
        self._supervisor = supervisor
        self._evaluations = evaluations
        self._profile_directory = profile_directory
        self._show_progress = show_progress
        self._sets = sets
        self._start(0, 0)

    def _start(self, first_step: int, total_steps: int) -> None:
        """Set the variables that change while the loop runs."""
        self._first_step, self._total_steps = first_step, total_steps
        self._clock = Clock(self._work)
        self._unwritten: list[tuple[int, dict[str, Any], Any]] = []
        self._in_flight: collections.deque[StepInFlight] = collections.deque()
        self._stop_reason: BaseException | None = None
        self._saved_at, self._is_old = time.monotonic(), False
        self._profiling = contextlib.ExitStack()

    def run(
        self, state: TrainState, batches: Iterator[Batch], *, first_step: int, total_steps: int
    ) -> TrainState:
        """Train from `first_step` to `total_steps`, and save the last state.

        Args:
            state: state after `first_step` updates; donated.
            batches: batches on the devices, from the batch of `first_step` on.
            first_step: updates made so far.
            total_steps: updates to have made at the end.

        Returns:
            The last state.

        Raises:
            Stopped: a signal stopped the run; the state is saved.
            RuntimeError: a checkpoint was not saved; or too many updates were skipped, with the state saved.
            OSError: no more clips can be read; with one process the state is saved.
        """
        self._start(first_step, total_steps)
        self._supervisor.start()
        made, unread = first_step, None
        with self._progress_bar() as self._bar, self._profiling:
            while made < total_steps and not self._stop_reason:
                self._start_profile(made)
                # An unintended transfer between host and device would stall every step, so it is an error.
                with jax.transfer_guard("disallow"):
                    try:
                        batch = self._read(batches)
                    except (OSError, RuntimeError) as error:
                        unread = self._error_to_save_before(error)
                        break
                    with self._compilation(made):
                        state, metrics = self._train_step(state, batch)
                made += 1
                failed = self._checkpoints.has_failed()
                started = self._supervisor.step_started(
                    made, metrics, batch, failed, self._last_save_is_old()
                )
                self._in_flight.append(started)
                self._wait_for_steps(STEPS_IN_FLIGHT)
                self._show_step(made)
                self._stop_profile(made)
                self._log_metrics(made, metrics, started.numbers["examples"])
                self._evaluate_and_save(made, state)
            if unread:
                self._wait_for_steps(0)
                if self._checkpoints.latest_step() != made and self._is_new(state, made):
                    self._save(made, state)
            with self._supervisor.stage("checkpoint"):
                self._checkpoints.wait()
        self._raise_reason(unread, made)
        return state

    # --- A step ---

    def _read(self, batches: Iterator[Batch]) -> Batch:
        with self._clock.waiting("input"), self._supervisor.stage("input"):
            return next(batches)

    @staticmethod
    def _error_to_save_before(error: OSError | RuntimeError) -> OSError | RuntimeError:
        """The error of the data, if this process can save the state first; raises it if not."""
        # All processes must take part in a save, and the others still wait for this one's part of the step.
        if jax.process_count() > 1 or isinstance(error, jax.errors.JaxRuntimeError):
            raise error
        return error

    def _compilation(self, made: int) -> contextlib.AbstractContextManager[None]:
        first = made == self._first_step
        return self._supervisor.stage("compilation") if first else contextlib.nullcontext()

    def _wait_for_steps(self, steps_left: int) -> None:
        """Wait until the devices have at most this many steps to finish, and look at the finished ones."""
        while len(self._in_flight) > steps_left:
            with self._clock.waiting("device"), self._supervisor.stage("device"):
                jax.block_until_ready(self._in_flight[0].numbers)
            step = self._in_flight.popleft()
            reason = self._supervisor.step_finished(step)
            self._stop_reason = self._stop_reason or reason  # the first reason counts
            self._is_old = self._is_old or self._supervisor.wants_save(step)

    def _raise_reason(self, unread: Exception | None, made: int) -> None:
        """Raise what has ended the run before its last step, if anything has."""
        if unread:
            raise unread
        if isinstance(self._stop_reason, Stopped):
            if made < self._total_steps:
                raise Stopped(self._stop_reason.signal, made)
        elif self._stop_reason:
            raise self._stop_reason

    # --- Log, evaluations, checkpoints ---

    def _is_due(self, made: int, every: int | None) -> bool:
        return made == self._total_steps or bool(every and made % every == 0)

    def _log_metrics(self, made: int, metrics: Metrics, examples: jax.Array) -> None:
        """Write the line that waits, and let the metrics and clips of this step wait in its place."""
        if self._is_due(made, self._intervals.log):
            with self._supervisor.stage("log"):
                self._write_lines()
            spent = ledger.in_metrics(self._supervisor.spent())
            self._unwritten = [(made, {**metrics, **self._clock.lap(made), **spent}, examples)]

    def _write_lines(self) -> None:
        """Fetch and write the metrics that wait; this waits for their steps."""
        for made, waiting, examples in self._unwritten:
            values = {name: float(value) for name, value in jax.device_get(waiting).items()}
            if self._sets is not None:
                values = with_shares(values, jax.device_get(examples), self._sets)
            self._log.write(made, values)
            self._bar.set_postfix(loss=f"{values['loss/total']:.4f}", refresh=False)
        self._unwritten.clear()

    def _evaluate_and_save(self, made: int, state: TrainState) -> None:
        evaluations = [one for one in self._evaluations if self._is_due(made, one.every)]
        save_due = self._is_due(made, self._intervals.checkpoint) or made in self._intervals.branches
        save_due = save_due or self._is_old
        if evaluations or save_due or self._stop_reason:
            self._wait_for_steps(0)  # before the clock is paused, so that their time counts
        scores = self._evaluate(made, state.params, evaluations)
        stopping = self._stop_reason is not None and self._is_new(state, made)
        if save_due or stopping or self._checkpoints.is_best(scores):
            self._save(made, state, scores)

    def _evaluate(self, made: int, params: Any, evaluations: Sequence[Evaluation]) -> dict[str, float]:
        """Log the scores of each evaluation, in a line of its own with the time that it took."""
        found: dict[str, float] = {}
        if evaluations:
            self._write_lines()
        for evaluation in evaluations:
            with self._supervisor.stage("evaluation"):
                with self._clock.evaluating() as taken:
                    scores = evaluation.scores(params, made)
                _check_score(evaluation, scores, self._checkpoints)
                self._log.write(made, scores | taken)
            found |= scores
        return found

    def _save(self, made: int, state: TrainState, scores: Mapping[str, float] | None = None) -> None:
        # Write the lines before the state, because a run that resumes from the state does not write them.
        self._write_lines()
        with self._clock.paused(), self._supervisor.stage("checkpoint"):
            self._checkpoints.save(made, state, self._record, scores)
        self._saved_at, self._is_old = time.monotonic(), False

    def _last_save_is_old(self) -> bool:
        """Whether the last save is older than `minutes` by the clock of this process."""
        minutes = self._intervals.minutes
        return minutes is not None and time.monotonic() - self._saved_at >= 60 * minutes

    def _is_new(self, state: TrainState, made: int) -> bool:
        """Whether an update was made since the run went on; if not, the last checkpoint has this state."""
        return int(jax.device_get(state.skipped_in_row)) < made - self._first_step

    # --- Progress bar and profile ---

    def _progress_bar(self) -> tqdm:
        return tqdm(
            total=self._total_steps,
            initial=self._first_step,
            unit="step",
            disable=not self._show_progress,
            smoothing=0.05,
        )

    def _show_step(self, made: int) -> None:
        if made == self._first_step + 1:
            self._bar.unpause()  # the time of the compilation would distort the estimate of the time left
        self._bar.update()

    def _start_profile(self, made: int) -> None:
        steps = self._intervals.profile
        if steps and made == steps[0]:
            self._profiling.enter_context(jax.profiler.trace(self._profile_directory))

    def _stop_profile(self, made: int) -> None:
        steps = self._intervals.profile
        if steps and made == steps[-1] + 1:
            self._wait_for_steps(0)
            self._profiling.close()


def _check_names(evaluations: Sequence[Evaluation], checkpoints: Checkpoints) -> None:
    names = [evaluation.name for evaluation in evaluations]
    if len(set(names)) < len(names):
        raise ValueError(f"evaluations {', '.join(names)}: each needs a name of its own")
    best = checkpoints.best
    if best is not None and not any(best.score.startswith(f"{name}/") for name in names):
        raise ValueError(
            f"the best checkpoint is chosen by {best.score}, but the evaluations are "
            f"{', '.join(names) or 'none'}: give the score as EVALUATION/SCORE"
        )


def _check_score(evaluation: Evaluation, scores: Mapping[str, float], checkpoints: Checkpoints) -> None:
    """Refuse an evaluation that lacks the score by which the best checkpoint is chosen."""
    best = checkpoints.best
    if best is not None and best.score.startswith(f"{evaluation.name}/") and best.score not in scores:
        raise ValueError(
            f"the best checkpoint is chosen by {best.score}, but {evaluation.name} only scores "
            f"{', '.join(scores)}"
        )
