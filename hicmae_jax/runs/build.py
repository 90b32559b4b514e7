"""Builds the computations of a pre-training run: optimiser, shapes of the state, gradient and update."""

import jax
import optax

from data_pipeline.reading.named_sets import NamedSets
from hicmae_jax.model import shapes
from hicmae_jax.model.hicmae import HiCMAE
from hicmae_jax.model.initialise import initialiser
from hicmae_jax.runs.by_set import means_by_set
from hicmae_jax.runs.step_loss import pretrain_split_loss, pretrain_terms
from hicmae_jax.settings.pretrain import PretrainSettings
from hicmae_jax.training import accumulation, compiler_options
from hicmae_jax.training import optimizer as optim
from hicmae_jax.training import state as train_state
from hicmae_jax.training.state import TrainState
from hicmae_jax.training.step import TrainStep, make_train_step


def abstract_run(
    config: PretrainSettings, optimizer_config: optim.OptimizerConfig, mesh: jax.sharding.Mesh
) -> tuple[optax.GradientTransformation, TrainState]:
    """The optimiser of a run, and the shapes and shardings of its state; computes no array.

    Args:
        config: settings of the run.
        optimizer_config: choices of the optimiser, with the length of the schedule.
        mesh: from `sharding.make_mesh`.
    """
    initialise = initialiser(config.model, config.masks, config.execution)
    parameters = shapes.abstract_parameters(config.model, config.masks, config.execution)
    optimizer = optim.make_optimizer(optimizer_config, parameters)
    return optimizer, train_state.abstract_state(initialise, optimizer, mesh, config.execution.scan_encoders)


def make_gradient(
    config: PretrainSettings, mesh: jax.sharding.Mesh, sets: NamedSets | None = None
) -> accumulation.Gradient:
    """A function that computes the loss terms and the gradient, in `accumulate` micro-batches.

    Args:
        config: settings of the run.
        mesh: the devices of the run.
        sets: the sets whose losses are terms too; None for none.
    """
    gradient = _gradient(config, mesh, sets)
    return gradient if sets is None else means_by_set(gradient, sets)


def _gradient(
    config: PretrainSettings, mesh: jax.sharding.Mesh, sets: NamedSets | None
) -> accumulation.Gradient:
    model = HiCMAE(config.model, config.execution)
    objective = (model, config.preprocess, config.loss, config.seed, mesh, sets)
    group = config.loss.group_size
    if config.accumulate == 1:
        return accumulation.whole_batch(pretrain_terms(*objective))
    if group is None:
        return accumulation.two_pass(pretrain_split_loss(*objective), config.accumulate, mesh)
    return accumulation.mean_of_micro_batches(pretrain_terms(*objective), config.accumulate, group, mesh)


def make_step(
    config: PretrainSettings,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    abstract: TrainState,
    mesh: jax.sharding.Mesh,
    sets: NamedSets | None = None,
) -> TrainStep:
    """The update function of a run, compiled at its first call.

    Args:
        config: settings of the run.
        optimizer: from `abstract_run`.
        schedule: learning rate by step.
        abstract: from `abstract_run`.
        mesh: the devices of the run.
        sets: the sets whose losses are metrics too; None for none.
    """
    options = options_of_compiler(config, mesh)
    gradient = make_gradient(config, mesh, sets)
    return make_train_step(gradient, optimizer, schedule, abstract, mesh, options)


def options_of_compiler(config: PretrainSettings, mesh: jax.sharding.Mesh) -> compiler_options.Options:
    """Options with which the update is compiled.

    Args:
        config: settings of the run.
        mesh: the devices of the run.
    """
    platform = mesh.devices.flat[0].platform
    return compiler_options.of(platform, config.execution.compiler_options)


def check_batch_divides(config: PretrainSettings, mesh: jax.sharding.Mesh) -> None:
    """Refuse micro-batches that would give some devices fewer clips than others.

    Args:
        config: settings of the run.
        mesh: the devices of the run.

    Raises:
        ValueError: names the batch and the number that must divide it.
    """
    batch, accumulate = config.batch, config.accumulate
    if batch // accumulate % mesh.size:
        raise ValueError(
            f"batch {batch} / accumulate {accumulate}, {batch // accumulate} clips, does not divide over "
            f"{mesh.size} devices: choose a batch that is a multiple of {accumulate * mesh.size}"
        )
