"""The parts that every kind of run shares: hosts, directory, log, events, watchdog, checkpoints, resuming.

The directory of a run::

    <directory>/config.json        the settings of the run, with every default filled in
    <directory>/versions.json      versions of the code and of the libraries
    <directory>/metrics.jsonl      a line for each logged step and each evaluation
    <directory>/events.jsonl       starts, stops, skipped updates, loss spikes, slow steps
    <directory>/checkpoints/       see `checkpoints.manager`, also for damaged_checkpoints/
    <directory>/in_use.json        while it runs: the process that holds the directory, see `in_use`
    <directory>/hosts/             while it runs: what each host is doing
    <directory>/stacks-0.txt       where the threads of the first host were when it hung
    <directory>/broken_clips.txt   clips that could not be read, with the reason; on other hosts the name
                                   begins with the number of the process
    <directory>/profile/           if a profile was asked for
    <directory>/pictures/          if pictures of rebuilt clips were asked for

If the directory is in a bucket, all but the checkpoints, `in_use.json` and `hosts/` is written to a local
disk, and sent from there (see `mirror`).
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import jax
from etils import epath

from data_pipeline.common.errors import typed_line
from data_pipeline.reading.named_sets import NamedSets
from hicmae_jax.checkpoints.best import BestBy
from hicmae_jax.checkpoints.manager import Checkpoints, Record
from hicmae_jax.hosts import agreement
from hicmae_jax.logs import events as event_log
from hicmae_jax.logs import metrics
from hicmae_jax.logs.events import Events, say
from hicmae_jax.logs.metrics import MetricsLog
from hicmae_jax.logs.versions import versions
from hicmae_jax.runs import resuming
from hicmae_jax.runs.broken_clips import BROKEN
from hicmae_jax.runs.clock import Work
from hicmae_jax.runs.directory import check_directory, write_json
from hicmae_jax.runs.loop import Evaluation, Intervals, Loop
from hicmae_jax.runs.place import RunPlace
from hicmae_jax.runs.process_start import ProcessStart
from hicmae_jax.runs.start_note import StartNote
from hicmae_jax.settings.sections import CheckpointConfig, FaultsConfig, LogConfig
from hicmae_jax.supervision.loss_guard import LossGuard
from hicmae_jax.supervision.signals import Stopped, StopSignals
from hicmae_jax.supervision.supervisor import Supervisor
from hicmae_jax.supervision.watchdog import Watchdog
from hicmae_jax.training.accumulation import Batch
from hicmae_jax.training.state import TrainState
from hicmae_jax.training.step import TrainStep

CONFIG, VERSIONS, PROFILE = "config.json", "versions.json", "profile"
Opened = TypeVar("Opened")


class RunSettings(Protocol):
    """The settings that a session needs, of any kind of run."""

    @property
    def checkpoint(self) -> CheckpointConfig:
        """When checkpoints are written, and which stay."""
        ...

    @property
    def log(self) -> LogConfig:
        """Logs and profile."""
        ...

    @property
    def faults(self) -> FaultsConfig:
        """When a run that goes wrong is reported or ended."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """All settings, as JSON can hold them."""
        ...

    def as_text(self) -> str:
        """All settings, one a line."""
        ...


class Session:
    """A run of any kind, from its settings to its last checkpoint.

    It is a context manager. Every process makes one and calls these methods in this order::

        with Session(settings, directory) as session:      # all hosts have the same settings and code
            …                                              # the kind of run opens its data
            session.check_inputs(data=fingerprints)        # and the same data; the directory may be used
            if session.resume(total_steps):                # finds the checkpoint to go on from
                return None                                # the run is finished already
            batches = session.open_logs(open_batches)      # opens batches, log and watchdog
            state = session.restore_or_create(abstract, create)
            return session.train(…)

    Until `resume` nothing is written. A method that fails on one host fails on all.

    Args:
        settings: settings of the run.
        directory: directory of the run, on a disk or in a bucket: new, empty, or of an earlier call.
        allow_changes: resume from a checkpoint that was made with other batches.
        show_progress: whether to draw a progress bar, on the first process.
        stop_signals: takes the signals, and is entered already; None leaves the signals to Python.
        arguments: further arguments of the command, which must be the same on all hosts.

    Attributes:
        address: directory of the run, as given.
        directory: the same, or the local directory for the files of a run in a bucket.
        is_first: whether this is the first process, which prints and writes for all.
        events: events of the run; after `resume`.
        first_step: updates made so far; after `resume`.
        watchdog: watchdog of this process; after `open_logs`.

    Raises:
        agreement.RefusedError: the hosts have different settings, arguments or code.
        ImportError: the package for this kind of bucket is missing.
    """

    events: Events
    watchdog: Watchdog
    _checkpoints: Checkpoints
    _log: MetricsLog
    _record: dict[str, Any]
    _resumed_step: int | None
    _total_steps: int

    def __init__(
        self,
        settings: RunSettings,
        directory: epath.PathLike,
        allow_changes: bool = False,
        show_progress: bool = True,
        stop_signals: StopSignals | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        self._start = ProcessStart()
        self.is_first = jax.process_index() == 0
        self._settings = settings
        self._described = settings.to_dict()
        self._allow_changes = allow_changes
        self._show_progress = show_progress
        self._stop_signals = stop_signals or StopSignals()
        self._versions = versions()
        self._exit_stack = contextlib.ExitStack()
        told = {"directory": str(directory), "allow_changes": allow_changes, **(arguments or {})}
        agreement.check_alike(config=self._described, run=told, code=self._versions)
        with agreement.all_or_none():
            self._place = RunPlace(directory)
        self.address, self.directory = self._place.address, self._place.files

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit_stack.__exit__(kind, error, trace)
        self._place.close()

    # --- In the order of the calls ---

    def check_inputs(self, data: Mapping[str, str], **others: Mapping[str, str]) -> None:
        """Refuse a directory that may not be used, and data that differ between hosts.

        From then on, the first process holds the directory, until the session ends.

        Args:
            data: directory → fingerprint of each prepared set that the run trains on.
            **others: the same for other sets, such as those of an evaluation.

        Raises:
            ValueError: the directory holds something else than a run, or is in use by another process.
            OSError: the directory cannot be written.
            agreement.RefusedError: the hosts have different data, or do not share the directory.
        """
        with agreement.all_or_none():
            check_directory(self.address)
            if self.is_first:
                self._place.hold(self._exit_stack)
        agreement.check_alike(data=data, **others)
        agreement.check_shared(self.address)
        with agreement.all_or_none():
            broken = BROKEN if self.is_first else f"{jax.process_index()}-{BROKEN}"
            self._place.fetch(self._exit_stack, (metrics.FILE, event_log.FILE, metrics.WANDB_ID, broken))
        self._record = {"config": self._described, "versions": self._versions, "data": dict(data)}

    def resume(self, total_steps: int, best: BestBy | None = None, branched: str | None = None) -> bool:
        """Open the checkpoints, and find the one from which the run resumes.

        Args:
            total_steps: updates in the whole run.
            best: also keep the best checkpoint by this score.
            branched: where the first checkpoint was copied from, in one line, if it was.

        Returns:
            Whether the run is finished already.

        Raises:
            ValueError: all checkpoints are damaged, or the last one does not fit the settings.
            OSError: the directory cannot be read or written.
        """
        self._total_steps = total_steps
        kept = self._settings.checkpoint
        self._checkpoints = self._exit_stack.enter_context(
            Checkpoints(
                self.address, kept.keep, kept.milestone, best, kept.branches, self._place.before_publish
            )
        )
        self._resumed_step, damaged = self._checkpoints.last_good(self._check_resumed)
        self.first_step = self._resumed_step or 0
        self.events = Events(self.directory, active=self.is_first)
        for line in damaged:
            self.events.note("damaged checkpoint", line)
        if branched is not None:
            self.events.note("branched", branched)
        if self._resumed_step is not None:
            self._say_resumed(self._resumed_step)
        finished = self._resumed_step is not None and self._resumed_step >= total_steps
        if finished:
            self.say(f"finished    already: {self.address} holds step {self._resumed_step:,}")
        return finished

    def open_logs(self, open_batches: Callable[[int], contextlib.AbstractContextManager[Opened]]) -> Opened:
        """Open the batches, the log and the watchdog; they are closed when the session ends.

        Args:
            open_batches: number of the first step → context manager that gives the batches from there on.

        Returns:
            The batches that `open_batches` gives.

        Raises:
            ValueError: the log is damaged.
            RuntimeError: a package for logging is missing.
        """
        log, faults = self._settings.log, self._settings.faults
        with agreement.all_or_none():
            note = StartNote(self.directory, self.address) if self.is_first else None
            self._log = self._exit_stack.enter_context(
                MetricsLog(
                    self.directory,
                    self._resumed_step,
                    tensorboard=log.tensorboard,
                    wandb_project=log.wandb,
                    config=self._described,
                    active=self.is_first,
                )
            )
            batches = self._exit_stack.enter_context(open_batches(self.first_step))
            if note:
                note.write(self.events, self.first_step, self._start.began)
        self.watchdog = self._exit_stack.enter_context(
            Watchdog(
                functools.partial(self.events.note, "slow") if self.is_first else say,
                self.address,
                jax.process_index(),
                jax.process_count(),
                slow=faults.slow,
                minutes=faults.minutes,
                step=self.first_step,
                stacks=self.directory,
                send=self._place.send,
                before=self._start.seconds(),
                about=self._start.about(),
            )
        )
        if self._resumed_step is None:
            self.say(self._settings.as_text())
        return batches

    def restore_or_create(self, abstract: TrainState, create: Callable[[], TrainState]) -> TrainState:
        """The state from which the run starts or resumes; a new run saves its first state at once.

        Args:
            abstract: shapes and shardings of the state.
            create: makes the state of step 0.

        Raises:
            ValueError: the checkpoint holds other arrays.
            OSError: the settings cannot be written to the directory.
        """
        with self.watchdog.stage("start"):
            if self._resumed_step is None:
                state = create()
                # A run that is killed before its first interval then goes on with the same settings.
                self._checkpoints.save(0, state, self._record)
            else:
                state = self._checkpoints.restore(abstract)
        if self.is_first:
            write_json(self.directory / CONFIG, self._described)
            write_json(self.directory / VERSIONS, self._versions)
        return state

    def train(
        self,
        train_step: TrainStep,
        state: TrainState,
        batches: Iterator[Batch],
        *,
        mesh: jax.sharding.Mesh,
        work: Work,
        evaluations: Sequence[Evaluation] = (),
        sets: NamedSets | None = None,
    ) -> TrainState:
        """Train to the last step, and write to the events how the run has started and ended.

        Args:
            train_step: see `Loop`.
            state: state from `restore_or_create`; donated.
            batches: batches on the devices, from `first_step` on.
            mesh: the devices of the run.
            work: the work of one step.
            evaluations: evaluations with their intervals.
            sets: the sets whose shares are logged; None for none.

        Returns:
            The last state.

        Raises:
            Stopped: a signal stopped the run; the state is saved.
            RuntimeError: a checkpoint was not saved; or too many updates were skipped.
            OSError: no more clips can be read.
        """
        faults = self._settings.faults
        guard = LossGuard(self.events, faults.skips, faults.spike)
        loop = Loop(
            train_step,
            work=work,
            intervals=self._intervals(),
            log=self._log,
            checkpoints=self._checkpoints,
            record=self._record,
            supervisor=Supervisor(mesh, self._stop_signals, guard, self.watchdog),
            evaluations=evaluations,
            profile_directory=str(self.directory / PROFILE),
            show_progress=self._show_progress and self.is_first,
            sets=sets,
        )
        self.events.write(
            "started",
            step=self.first_step,
            total_steps=self._total_steps,
            processes=jax.process_count(),
            devices=mesh.size,
        )
        with _end_written(self.events, self.watchdog):
            return loop.run(state, batches, first_step=self.first_step, total_steps=self._total_steps)

    # --- Parts ---

    def say(self, line: str) -> None:
        """Print a line, on the first process only."""
        if self.is_first:
            print(line, flush=True)

    def _check_resumed(self, step: int, before: Record) -> None:
        """Refuse a checkpoint that does not fit the settings."""
        resuming.check_fits(before, self._described)
        resuming.check_same_batches(before, self._described, self._record["data"], self._allow_changes)

    def _say_resumed(self, step: int) -> None:
        """Say from which step the run goes on, and which settings have changed."""
        self.say(f"going on    from step {step:,} of {self._total_steps:,}")
        for line in resuming.changes(self._checkpoints.read_record(), self._described):
            self.say(f"changed     {line}")

    def _intervals(self) -> Intervals:
        log = self._settings.log
        first = log.profile_step
        profile = range(0) if first is None else range(first, first + log.profile_steps)
        kept = self._settings.checkpoint
        return Intervals(
            log=log.every,
            checkpoint=kept.every,
            minutes=kept.minutes,
            branches=frozenset(kept.branches),
            profile=profile,
        )


@contextlib.contextmanager
def _end_written(events: Events, watchdog: Watchdog) -> Iterator[None]:
    """Write to the events how the training inside has ended, and on what the time was spent."""

    def account() -> dict[str, Any]:
        return {"step": watchdog.made, "spent": watchdog.spent()}

    try:
        yield
    except (Stopped, Exception) as error:
        # A full disk may have ended the training, and the first error counts.
        with contextlib.suppress(OSError):
            events.write("stopped", line=typed_line(error), **account())
        raise
    events.write("finished", **account())
