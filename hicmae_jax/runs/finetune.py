"""A fine-tuning run of one fold, from its settings to scores of its test clips.

Besides the files that every run has (see `session`)::

    <directory>/last.npz       of the last epoch: names, true labels, scores and features of the test clips
    <directory>/best.npz       the same of the epoch that scored best in validation
    <directory>/scores.json    scores of both, and which data chose the best epoch
    <directory>/*.png          see `fold_figures`
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from data_pipeline.format.host_batch import HostBatch
from data_pipeline.reading.device_feed import sharding_rows, to_device
from data_pipeline.reading.labelled_pipeline import LabelledPipeline
from data_pipeline.reading.pipeline import BatchStream
from hicmae_jax.checkpoints.best import BestBy
from hicmae_jax.evaluation.emotion_scores import EmotionScorer
from hicmae_jax.hosts import agreement
from hicmae_jax.model import shapes
from hicmae_jax.model.finetune import HiCMAEFinetune
from hicmae_jax.model.flops import finetune_flops
from hicmae_jax.model.initialise import finetune_initialiser, parameter_key
from hicmae_jax.objective.finetune import class_weights
from hicmae_jax.runs import fold_scores
from hicmae_jax.runs.broken_clips import BROKEN, note_faults
from hicmae_jax.runs.capacity import check_capacity, check_scoring
from hicmae_jax.runs.clock import Work
from hicmae_jax.runs.finetune_loss import finetune_terms
from hicmae_jax.runs.fold_data import FoldData
from hicmae_jax.runs.loop import Evaluation
from hicmae_jax.runs.session import Session
from hicmae_jax.settings.finetune import FinetuneSettings
from hicmae_jax.supervision.signals import StopSignals
from hicmae_jax.supervision.watchdog import Watchdog
from hicmae_jax.training import accumulation, compiler_options, freeze, sharding
from hicmae_jax.training import optimizer as optim
from hicmae_jax.training import state as train_state
from hicmae_jax.training.state import TrainState
from hicmae_jax.training.step import TrainStep, make_train_step
from hicmae_jax.weights.encoders import Encoders, fill

VALIDATION = "validation"


def run(
    config: FinetuneSettings,
    directory: epath.PathLike,
    encoders: Encoders | None,
    allow_changes: bool = False,
    show_progress: bool = True,
    stop_signals: StopSignals | None = None,
) -> None:
    """Fine-tune on one fold and score its test clips, or resume where an earlier call has stopped.

    Args:
        config: settings of the run.
        directory: directory of the run: new, empty, or of an earlier call.
        encoders: weights to begin with; None from scratch, or if the run has begun.
        allow_changes: resume from a checkpoint that was made with other batches.
        show_progress: draw a progress bar.
        stop_signals: takes the signals, and is entered already; None leaves the signals to Python.

    Raises:
        Stopped: a signal that `stop_signals` has taken.
        ValueError: settings, data, weights, checkpoint and devices do not fit each other.
        agreement.RefusedError: the hosts differ, or one of several hosts has failed.
        FileNotFoundError: the data are not there.
        RuntimeError: a checkpoint was not saved, or a package for logging is missing.
        OSError: the directory cannot be written, or no more clips can be read.
    """
    arguments = {"weights": None if encoders is None else encoders.origin}
    with Session(config, directory, allow_changes, show_progress, stop_signals, arguments) as session:
        with agreement.all_or_none():
            fold = _Fold(config, encoders)
            updates = fold.optimizer()
        session.check_inputs(data=fold.data.fingerprints)
        finished = session.resume(fold.total_steps, best=BestBy(f"{VALIDATION}/{fold.chosen_by}"))
        if not finished:
            _train(session, fold, *updates)
        if not finished or not fold_scores.are_complete(session.directory):
            pause = contextlib.nullcontext() if finished else session.watchdog.stage("evaluation")
            with pause:
                fold_scores.score_fold(
                    session.address,
                    session.directory,
                    fold.data,
                    fold.scorer,
                    config,
                    fold.pipeline.steps_per_epoch,
                )


class _Fold:
    """The devices, the data and the model of a run.

    Args:
        config: settings of the run.
        encoders: weights to begin with; None from scratch.

    Raises:
        ValueError: devices, data, weights and settings do not fit each other.
        FileNotFoundError: a set is not there.
    """

    def __init__(self, config: FinetuneSettings, encoders: Encoders | None) -> None:
        self.config = config
        check_capacity(config)
        check_scoring("scoring.batch", config.scoring.batch, config.model)
        self.mesh = sharding.make_mesh(config.fsdp)
        self._spread = sharding.batch_sharding(self.mesh)
        self._check_micro_batches()
        self.options = compiler_options.of(
            self.mesh.devices.flat[0].platform, config.execution.compiler_options
        )
        compiler_options.check(self.options, self.mesh)
        self.data = FoldData(config.data, config.model.frames, config.seed)
        regression = self.data.protocol.regression
        self.loss_kind = config.loss.kind_for(regression)
        self.chosen_by = "CCC" if regression else "WAR"
        self.finetune = config.for_outputs(len(self.data.outputs))
        self.pipeline = LabelledPipeline(
            self.data.training_source(),
            config.batch,
            config.seed,
            sharding_rows(self._spread, config.batch),
            self.data.classes if config.data.balanced else None,
            config.data.threads,
            config.data.workers,
            config.data.prefetch,
        )
        self.initialise = finetune_initialiser(
            config.model, self.finetune, config.execution, from_scratch=not config.initial.weights
        )
        self._encoders = encoders
        self._initial = None if encoders is None else self._filled(encoders)
        self.scorer = EmotionScorer(
            config.model,
            self.finetune,
            config.preprocess,
            regression,
            config.scoring.batch,
            config.execution,
            self.mesh,
            reading=self._reading,
        )
        self._watchdog: Watchdog | None = None

    @property
    def total_steps(self) -> int:
        """Updates in the whole run."""
        return self.config.total_steps(self.pipeline.steps_per_epoch)

    @property
    def work(self) -> float:
        """Floating-point operations of a training clip; what is frozen takes no backward pass."""
        counted = finetune_flops(self.config.model, self.finetune)
        return sum((counted.training if self.config.tuning.mode == "full" else counted.forward).values())

    def optimizer(self) -> tuple[optim.optax.GradientTransformation, optim.optax.Schedule, Any]:
        """The optimiser, its learning rate by step, and which parameters are frozen."""
        params = jax.eval_shape(self.initialise, jax.random.key(0))
        chosen = self.config.optimizer_config(self.pipeline.steps_per_epoch)
        optimizer = optim.make_optimizer(chosen, params)
        frozen = _frozen(params, self.config.tuning.mode)
        if any(jax.tree.leaves(frozen)):
            optimizer = freeze.without_update(optimizer, frozen)
        return optimizer, chosen.schedule(), frozen

    def create(self, optimizer: optim.optax.GradientTransformation, abstract: TrainState) -> TrainState:
        """The state of step 0, with the weights to begin with."""
        key = parameter_key(self.config.seed)
        state = train_state.create(self.initialise, optimizer, abstract, key)
        if self._initial is None:
            return state
        return state.replace(params=jax.tree.map(_placed, self._initial, abstract.params))

    def train_step(
        self,
        optimizer: optim.optax.GradientTransformation,
        schedule: optim.optax.Schedule,
        abstract: TrainState,
        frozen: Any,
    ) -> TrainStep:
        """The update function, compiled at its first call."""
        config = self.config
        model = HiCMAEFinetune(config.model, self.finetune, config.execution)
        weights = None
        if config.loss.balanced:
            weights = class_weights(self.data.train.targets.sum(0))
        terms = finetune_terms(model, config, self.loss_kind, weights, frozen)
        if config.accumulate == 1:
            gradient = accumulation.whole_batch(terms)
        else:
            gradient = accumulation.mean_of_micro_batches(terms, config.accumulate, 1, self.mesh)
        return make_train_step(gradient, optimizer, schedule, abstract, self.mesh, self.options)

    def on_devices(self, stream: BatchStream, session: Session) -> Iterator[Any]:
        """The batches with their labels, on the devices."""
        name = BROKEN if session.is_first else f"{jax.process_index()}-{BROKEN}"
        noted = note_faults(stream, session.directory / name, session.events)
        labelled = _with_labels(noted, self.data.train.targets)
        return to_device(labelled, self._spread, self.config.batch)  # type: ignore[arg-type]

    def evaluation(self, watchdog: Watchdog) -> Evaluation:
        """Validation, which chooses the best epoch; each batch of it and of scoring is a sign of life."""
        self._watchdog = watchdog
        clips = self.data.validation_clips(self.config.scoring.batch)
        names = self.data.outputs

        def validate(params: Any) -> Mapping[str, float]:
            found = self.scorer(params, [clips])
            targets = self.data.validation.targets[found.example]
            return fold_scores.scores_of(self.data.protocol, names, targets, found.scores)

        return Evaluation(VALIDATION, self.config.scoring.epochs * self.pipeline.steps_per_epoch, validate)

    def print_size(self, session: Session) -> None:
        """Print what is trained, on what, and for how long."""
        config, data = self.config, self.data
        parameters = shapes.finetune_parameters(config.model, self.finetune)
        origin = "from scratch" if self._encoders is None else f"from {self._encoders.origin}"
        session.say(
            f"model       {parameters / 1e6:.2f} M parameters, {self.work / 1e9:.2f} GFLOP a clip, {origin}"
        )
        session.say(
            f"data        {data.protocol.name}, fold {data.config.fold}: {len(data.train):,} clips to train "
            f"on, {len(data.validation):,} for validation, {len(data.test):,} to test"
        )
        session.say(f"best epoch  is chosen by {self.chosen_by} {data.selection}")
        for line in data.flags:
            session.say(f"warning     {line}")
        steps = f"{self.pipeline.steps_per_epoch:,} steps an epoch"
        session.say(f"steps       {self.total_steps:,} of {config.batch:,} clips, {steps}")

    def _filled(self, encoders: Encoders) -> Any:
        """Initial parameters with the encoders' weights, as NumPy arrays."""
        local = jax.jit(self.initialise)(parameter_key(self.config.seed))
        return fill(encoders, jax.device_get(local), self.config.model).params

    def _reading(self) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext() if self._watchdog is None else self._watchdog.stage("input")

    def _check_micro_batches(self) -> None:
        config = self.config
        if config.batch // config.accumulate % self.mesh.size:
            raise ValueError(
                f"batch {config.batch} / accumulate {config.accumulate} does not divide over "
                f"{self.mesh.size} devices: choose a batch that is a multiple of "
                f"{config.accumulate * self.mesh.size}"
            )
        if config.accumulate > 1 and config.loss.kind in ("ccc", "pcc"):
            raise ValueError(
                f"accumulate {config.accumulate} would change loss.kind {config.loss.kind}, a correlation "
                "over the batch: set accumulate to 1"
            )


def _train(
    session: Session,
    fold: _Fold,
    optimizer: optim.optax.GradientTransformation,
    schedule: optim.optax.Schedule,
    frozen: Any,
) -> None:
    abstract = train_state.abstract_state(
        fold.initialise, optimizer, fold.mesh, fold.config.execution.scan_encoders
    )
    stream = session.open_logs(fold.pipeline.batches)
    fold.print_size(session)
    state = session.restore_or_create(abstract, lambda: fold.create(optimizer, abstract))
    session.train(
        fold.train_step(optimizer, schedule, abstract, frozen),
        state,
        fold.on_devices(stream, session),
        mesh=fold.mesh,
        work=Work(clips=fold.config.batch, flops=fold.work),
        evaluations=[fold.evaluation(session.watchdog)],
    )


def _frozen(params: Any, mode: str) -> Any:
    """Which parameters a mode does not train: none, encoders and fusion, or all but the head."""
    trained = {"full": (), "frozen": ("fc_norm", "head", "video_layer_weights", "audio_layer_weights")}
    names = trained.get(mode, ("head",))
    return {
        module: jax.tree.map(lambda _, stop=bool(names) and module not in names: stop, tree)
        for module, tree in params.items()
    }


def _with_labels(
    batches: Iterator[HostBatch[np.ndarray]], targets: np.ndarray
) -> Iterator[dict[str, np.ndarray]]:
    for batch in batches:
        yield {**batch, "label": targets[batch["example"]]}  # type: ignore[dict-item]


def _placed(value: np.ndarray, like: jax.ShapeDtypeStruct) -> jax.Array:
    return jax.make_array_from_callback(value.shape, like.sharding, lambda index: value[index])
