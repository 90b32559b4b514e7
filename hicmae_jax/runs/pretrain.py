"""A pre-training run put together: from its configuration to a finished directory.

Everything that can be wrong is looked at first, in seconds; only then is anything compiled or written::

    <directory>/config.json        what the run was told, every setting resolved
    <directory>/versions.json      what it ran on
    <directory>/metrics.jsonl      a line for each logged step and each evaluation
    <directory>/events.jsonl       starts, stops, skipped updates, loss spikes, slow steps
    <directory>/checkpoints/       see `checkpoints`, and damaged_checkpoints
    <directory>/hosts/             while it runs on several: what each is doing
    <directory>/stacks-0.txt       where the threads of the first host were when it hung
    <directory>/broken_clips.txt   clips that could not be read, with the reason; other hosts' lists have
                                   their process's number before the name
    <directory>/profile/           if asked for
"""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Mapping

import jax
from etils import epath

from data_pipeline.common.errors import typed_line
from data_pipeline.format.clip_sampling import ClipSampling
from data_pipeline.reading.device_feed import sharding_rows, to_device
from data_pipeline.reading.fixed_clips import FixedClips
from data_pipeline.reading.pipeline import Pipeline
from data_pipeline.reading.sources import ClipSource
from hicmae_jax.checkpoints.manager import Checkpoints
from hicmae_jax.evaluation.held_out import HeldOut
from hicmae_jax.hosts import agreement
from hicmae_jax.logs.events import Events, say
from hicmae_jax.logs.metrics import MetricsLog
from hicmae_jax.logs.versions import versions
from hicmae_jax.model import shapes
from hicmae_jax.model.flops import flops as model_flops
from hicmae_jax.model.initialise import initialiser, parameter_key
from hicmae_jax.runs import branching, build, resuming
from hicmae_jax.runs.branching import Branch
from hicmae_jax.runs.broken_clips import BROKEN, note_faults
from hicmae_jax.runs.clock import Work
from hicmae_jax.runs.directory import check_directory, write_json
from hicmae_jax.runs.loop import Intervals, train
from hicmae_jax.settings.pretrain import PretrainSettings
from hicmae_jax.supervision.loss_guard import LossGuard
from hicmae_jax.supervision.signals import Stopped, StopSignals
from hicmae_jax.supervision.supervisor import Supervisor
from hicmae_jax.supervision.watchdog import Watchdog
from hicmae_jax.training import sharding
from hicmae_jax.training import state as train_state
from hicmae_jax.training.state import TrainState

CONFIG, VERSIONS, PROFILE = "config.json", "versions.json", "profile"


def run(
    config: PretrainSettings,
    directory: epath.PathLike,
    allow_changes: bool = False,
    show_progress: bool = True,
    stop_signals: StopSignals | None = None,
    branch: Branch | None = None,
) -> TrainState | None:
    """Pre-train, or go on where an earlier call with this directory has stopped.

    Args:
        config: what to do.
        directory: of the run; new, empty, or a run's.
        allow_changes: go on from a checkpoint although batches would differ from the run's so far.
        show_progress: draw a progress bar.
        stop_signals: what takes signals, entered; None leaves them to Python.
        branch: another run's checkpoint to begin with, where this run has none yet.

    Returns:
        The state after the last step; None if the run had been finished before.

    Raises:
        Stopped: by a signal that `stop_signals` has taken.
        ValueError: settings, data, checkpoint and devices that do not go together.
        agreement.RefusedError: hosts that are not alike, or one of several that has failed.
        FileNotFoundError: data that are not there.
        RuntimeError: a checkpoint was not saved, or a package for logging is missing.
        OSError: the directory cannot be written, or no clip can be read any more.
    """
    directory = epath.Path(directory)
    is_first = jax.process_index() == 0

    # --- Devices and data ---
    described, ran_on = config.to_dict(), versions()
    told = {"directory": str(directory), "allow_changes": allow_changes}
    told["branch"] = None if branch is None else dataclasses.asdict(branch)
    agreement.check_alike(config=described, run=told, code=ran_on)
    with agreement.all_or_none():
        mesh = sharding.make_mesh(config.fsdp)
        spread = sharding.batch_sharding(mesh)
        build.check_batch_divides(config, mesh)
        pipeline = Pipeline(config.data, sharding_rows(spread, config.batch))
        held_out_clips = _held_out_clips(config)
        fingerprints = _fingerprints(pipeline.source)
        judged_on = {} if held_out_clips is None else _fingerprints(held_out_clips.source)
        check_directory(directory)
    agreement.check_alike(data=fingerprints, evaluation=judged_on)
    agreement.check_shared(directory)
    if is_first:
        _warn_of_trained_on(fingerprints, judged_on)

    # --- Schedule ---
    with agreement.all_or_none():
        optimizer_config = config.optimizer_config(pipeline.steps_per_epoch)
        schedule = optimizer_config.schedule()
    total_steps = config.total_steps(pipeline.steps_per_epoch)

    # --- Where to begin ---
    record = {"config": described, "versions": ran_on, "data": fingerprints}
    branched = None
    with agreement.all_or_none():
        if branch is not None and is_first:
            steps_per_epoch = pipeline.steps_per_epoch
            branched = branching.begin(
                branch, directory, described, fingerprints, schedule, steps_per_epoch, allow_changes
            )
    with Checkpoints(directory, config.checkpoint.keep, config.checkpoint.milestone) as checkpoints:
        first_step, put_aside = checkpoints.last_good()
        events = Events(directory, active=is_first)
        for line in put_aside:
            events.note("damaged checkpoint", line)
        if branched is not None:
            events.note("branched", branched)
        if first_step is not None:
            before = checkpoints.read_record()
            with agreement.all_or_none():
                resuming.check_fits(before, described)
                resuming.check_same_batches(before, described, fingerprints, allow_changes)
            if is_first:
                print(f"going on    from step {first_step:,} of {total_steps:,}")
                for line in resuming.changes(before, described):
                    print(f"changed     {line}")
            if first_step >= total_steps:
                if is_first:
                    print(f"finished    already: {directory} holds step {first_step:,}")
                return None
        with contextlib.ExitStack() as opened:
            # Before anything is compiled, for they may refuse too.
            with agreement.all_or_none():
                log = opened.enter_context(
                    MetricsLog(
                        directory,
                        first_step,
                        tensorboard=config.log.tensorboard,
                        wandb_project=config.log.wandb,
                        config=described,
                        active=is_first,
                    )
                )
                stream = opened.enter_context(pipeline.batches(first_step or 0))
            watchdog = opened.enter_context(
                Watchdog(
                    functools.partial(events.note, "slow") if is_first else say,
                    directory,
                    jax.process_index(),
                    jax.process_count(),
                    slow=config.faults.slow,
                    minutes=config.faults.minutes,
                    step=first_step or 0,
                )
            )
            if is_first:
                if first_step is None:
                    print(config.as_text())
                _print_size(config, pipeline, total_steps, mesh)

            # --- State ---
            optimizer, abstract = build.abstract_run(config, optimizer_config, mesh)
            with watchdog.stage("start"):
                if first_step is None:
                    initialise = initialiser(config.model, config.masks, config.execution)
                    key = parameter_key(config.seed)
                    state = train_state.create(initialise, optimizer, abstract, key)
                    # A run that is killed soon goes on too, and not as another.
                    checkpoints.save(0, state, record)
                else:
                    state = checkpoints.restore(abstract)
            if is_first:
                write_json(directory / CONFIG, described)
                write_json(directory / VERSIONS, record["versions"])

            # --- Train ---
            step = build.make_step(config, optimizer, schedule, abstract, mesh)
            broken = directory / (BROKEN if is_first else f"{jax.process_index()}-{BROKEN}")
            guard = LossGuard(events, config.faults.skips, config.faults.spike)
            events.write("started", step=first_step or 0, processes=jax.process_count(), devices=mesh.size)
            opened.enter_context(_end_written(events))
            return train(
                state,
                step,
                to_device(note_faults(stream, broken, events), spread, config.batch),
                first_step=first_step or 0,
                total_steps=total_steps,
                work=Work(
                    clips=config.batch,
                    flops=sum(model_flops(config.model, config.masks).training.values()),
                ),
                intervals=Intervals(
                    log=config.log.every,
                    checkpoint=config.checkpoint.every,
                    evaluate=config.evaluation.every,
                    profile=_profiled(config),
                ),
                log=log,
                checkpoints=checkpoints,
                record=record,
                supervisor=Supervisor(mesh, stop_signals or StopSignals(), guard, watchdog),
                evaluate=_held_out(config, held_out_clips, mesh, watchdog),
                profile_directory=str(directory / PROFILE),
                show_progress=show_progress and is_first,
            )


@contextlib.contextmanager
def _end_written(events: Events) -> Iterator[None]:
    """Write down how what is inside has ended."""
    try:
        yield
    except (Stopped, Exception) as error:
        with contextlib.suppress(OSError):  # of a full disk, which may be what has ended it
            events.write("stopped", line=typed_line(error))
        raise
    events.write("finished")


def _profiled(config: PretrainSettings) -> range:
    first = config.log.profile_step
    return range(0) if first is None else range(first, first + config.log.profile_steps)


def _held_out_clips(config: PretrainSettings) -> FixedClips | None:
    settings = config.evaluation
    if not settings.sets:
        return None
    sampling = ClipSampling(config.data.frames, config.data.stride)
    return FixedClips(settings.sets, sampling, settings.batch, settings.clips, config.data.threads)


def _held_out(
    config: PretrainSettings, clips: FixedClips | None, mesh: jax.sharding.Mesh, watchdog: Watchdog
) -> HeldOut | None:
    if clips is None:
        return None
    negatives = config.loss.group_size or config.batch
    # However long it takes as a whole, each batch is a sign of life.
    reading = functools.partial(watchdog.stage, "input")
    return HeldOut(clips, config.preprocess, config.loss, negatives, mesh, reading, config.execution)


def _fingerprints(source: ClipSource) -> dict[str, str]:
    return {str(clips.root): clips.about.fingerprint for clips in source.sets}


def _warn_of_trained_on(fingerprints: Mapping[str, str], judged_on: Mapping[str, str]) -> None:
    for directory, fingerprint in judged_on.items():
        if fingerprint in fingerprints.values():
            print(f"warning     evaluation.sets: {directory} is trained on, so its scores say little")


def _print_size(
    config: PretrainSettings, pipeline: Pipeline, total_steps: int, mesh: jax.sharding.Mesh
) -> None:
    sizes = shapes.pretrain_parameters(config.model, config.masks)
    flops = sum(model_flops(config.model, config.masks).training.values())
    kind = jax.devices()[0].device_kind
    print(f"model       {config.size}, {sizes / 1e6:.2f} M parameters, {flops / 1e9:.2f} GFLOP a clip")
    print(f"data        {len(pipeline.source):,} clips, {pipeline.steps_per_epoch:,} steps to an epoch")
    print(f"devices     {mesh.size} × {kind}, mesh {dict(mesh.shape)}, {jax.process_count()} hosts")
    print(f"steps       {total_steps:,} of {config.batch:,} clips", flush=True)
