"""A pre-training run, from its settings to a finished directory; `session` lists the files in it.

The run first checks, within seconds, everything that can be wrong; only then it compiles or writes anything.
"""

import dataclasses
from collections.abc import Iterator

import jax
import optax
from etils import epath

from data_pipeline.format.host_batch import HostBatch
from data_pipeline.reading.device_feed import sharding_rows, to_device
from data_pipeline.reading.named_sets import NamedSets
from data_pipeline.reading.pipeline import BatchStream, Pipeline
from hicmae_jax.checkpoints.best import BestBy
from hicmae_jax.hosts import agreement
from hicmae_jax.model import shapes
from hicmae_jax.model.flops import flops
from hicmae_jax.model.initialise import initialiser, parameter_key
from hicmae_jax.runs import branching, build
from hicmae_jax.runs.branching import Branch
from hicmae_jax.runs.broken_clips import BROKEN, note_faults
from hicmae_jax.runs.capacity import check_capacity
from hicmae_jax.runs.clock import Work
from hicmae_jax.runs.evaluations import Evaluations, fingerprints_of
from hicmae_jax.runs.session import Session
from hicmae_jax.settings import best_score
from hicmae_jax.settings.pretrain import PretrainSettings
from hicmae_jax.supervision.signals import StopSignals
from hicmae_jax.training import compiler_options, sharding
from hicmae_jax.training import state as train_state
from hicmae_jax.training.state import TrainState


def run(
    config: PretrainSettings,
    directory: epath.PathLike,
    allow_changes: bool = False,
    show_progress: bool = True,
    stop_signals: StopSignals | None = None,
    branch: Branch | None = None,
) -> TrainState | None:
    """Pre-train, or resume where an earlier call with this directory has stopped.

    Args:
        config: settings of the run.
        directory: directory of the run: new, empty, or of an earlier call.
        allow_changes: resume from a checkpoint that was made with other batches.
        show_progress: draw a progress bar.
        stop_signals: takes the signals, and is entered already; None leaves the signals to Python.
        branch: another run's checkpoint to begin with, if this run has none yet.

    Returns:
        The state after the last step; None if the run was finished before.

    Raises:
        Stopped: a signal that `stop_signals` has taken.
        ValueError: settings, data, checkpoint and devices do not fit each other.
        agreement.RefusedError: the hosts differ, or one of several hosts has failed.
        FileNotFoundError: the data are not there.
        RuntimeError: a checkpoint was not saved, or a package for logging is missing.
        OSError: the directory cannot be written, or no more clips can be read.
    """
    arguments = {"branch": None if branch is None else dataclasses.asdict(branch)}
    with Session(config, directory, allow_changes, show_progress, stop_signals, arguments) as session:
        with agreement.all_or_none():
            data = _Data(config)
        session.check_inputs(data=data.fingerprints, evaluation=data.evaluations.fingerprints)
        _warn_of_trained_on(session, data)
        with agreement.all_or_none():
            optimizer_config = config.optimizer_config(data.steps_per_epoch)
            schedule = optimizer_config.schedule()
        branched = _branch(branch, session, data, schedule, allow_changes)
        total = config.total_steps(data.steps_per_epoch)
        if session.resume(total, best=_best(config), branched=branched):
            return None
        stream = session.open_logs(data.pipeline.batches)
        _print_size(session, data)
        optimizer, abstract = build.abstract_run(config, optimizer_config, data.mesh)
        initialise = initialiser(config.model, config.masks, config.execution)
        key = parameter_key(config.seed)
        state = session.restore_or_create(
            abstract, lambda: train_state.create(initialise, optimizer, abstract, key)
        )
        return session.train(
            build.make_step(config, optimizer, schedule, abstract, data.mesh, data.scored_sets),
            state,
            data.on_devices(stream, session),
            mesh=data.mesh,
            work=Work(clips=config.batch, flops=_flops(config)),
            evaluations=data.evaluations.of(session, data.mesh),
            sets=data.sets,
        )


class _Data:
    """The devices of a run, the clips that it trains on, and those that it is evaluated on.

    Args:
        config: settings of the run.

    Attributes:
        config: settings of the run.
        mesh: the devices.
        pipeline: gives the batches.
        evaluations: what the model is evaluated on.
        fingerprints: directory → fingerprint of each set to train on.
        sets: the sets to train on, if there are several.

    Raises:
        ValueError: the devices or the sets do not fit the settings, or the settings are impossible here.
        FileNotFoundError: a set is not there.
    """

    def __init__(self, config: PretrainSettings) -> None:
        self.config = config
        check_capacity(config)
        self.mesh = sharding.make_mesh(config.fsdp)
        build.check_batch_divides(config, self.mesh)
        compiler_options.check(build.options_of_compiler(config, self.mesh), self.mesh)
        self._spread = sharding.batch_sharding(self.mesh)
        self.pipeline = Pipeline(config.data, sharding_rows(self._spread, config.batch))
        self.sets = self.pipeline.source.named_sets() if len(config.data.data) > 1 else None
        self.evaluations = Evaluations(config, self.pipeline.cache)
        self.fingerprints = fingerprints_of(self.pipeline.source)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in the data."""
        return self.pipeline.steps_per_epoch

    @property
    def scored_sets(self) -> NamedSets | None:
        """The sets whose losses are logged."""
        return self.sets if self.config.log.by_set else None

    def on_devices(self, stream: BatchStream, session: Session) -> Iterator[HostBatch[jax.Array]]:
        """The batches on the devices; clips that cannot be read are listed in the directory of the run."""
        name = BROKEN if session.is_first else f"{jax.process_index()}-{BROKEN}"
        noted = note_faults(stream, session.directory / name, session.events)
        return to_device(noted, self._spread, self.config.batch)


def _best(config: PretrainSettings) -> BestBy | None:
    """The score by which the best checkpoint is kept; None for no best checkpoint."""
    score = config.evaluation.best
    return BestBy(score, best_score.mode(score)) if score else None


def _branch(
    branch: Branch | None,
    session: Session,
    data: _Data,
    schedule: optax.Schedule,
    allow_changes: bool,
) -> str | None:
    """Copy the first checkpoint from another run, if requested; return one line that says so, or None."""
    with agreement.all_or_none():
        if branch is None or not session.is_first:
            return None
        return branching.begin(
            branch,
            session.address,
            data.config.to_dict(),
            data.fingerprints,
            schedule,
            data.steps_per_epoch,
            allow_changes,
        )


def _warn_of_trained_on(session: Session, data: _Data) -> None:
    for directory, fingerprint in data.evaluations.held_out.items():
        if fingerprint in data.fingerprints.values():
            session.say(f"warning     evaluation.sets: {directory} is trained on, so its scores say little")


def _flops(config: PretrainSettings) -> float:
    return sum(flops(config.model, config.masks).training.values())


def _lines_of_sets(data: _Data, clips: int) -> Iterator[str]:
    """A line for each of several sets: how much of it a run of so many clips sees."""
    names = data.sets.names if data.sets else ()
    for name, own, share in zip(names, data.pipeline.clips_of_sets, data.pipeline.shares):
        passes = clips * share / own
        yield f"set         {name}: {own:,} clips, {share:.1%} of the batches, {passes:,.2f} passes"


def _print_size(session: Session, data: _Data) -> None:
    config, mesh = data.config, data.mesh
    parameters = shapes.pretrain_parameters(config.model, config.masks)
    kind = jax.devices()[0].device_kind
    total = config.total_steps(data.steps_per_epoch)
    clips = f"{data.pipeline.clips:,} clips"
    if config.data.share < 1:
        clips += f" of {len(data.pipeline.source):,}"
    sizes = f"{parameters / 1e6:.2f} M parameters, {_flops(config) / 1e9:.2f} GFLOP a clip"
    session.say(f"model       {config.size}, {sizes}")
    session.say(f"data        {clips}, {data.steps_per_epoch:,} steps to an epoch")
    for line in _lines_of_sets(data, total * config.batch):
        session.say(line)
    session.say(f"devices     {mesh.size} × {kind}, mesh {dict(mesh.shape)}, {jax.process_count()} hosts")
    options = build.options_of_compiler(config, mesh)
    if options:
        session.say(f"compiler    {compiler_options.shown(options)}")
    for line in data.evaluations.lines:
        session.say(line)
    session.say(f"steps       {total:,} of {config.batch:,} clips")
