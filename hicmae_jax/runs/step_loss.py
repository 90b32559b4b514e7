"""The pre-training loss of a host batch: preprocessing on the device, then the objective."""

from typing import Any

import jax

from data_pipeline.reading.named_sets import NamedSets
from hicmae_jax.model.hicmae import HiCMAE
from hicmae_jax.objective import pretrain as objective
from hicmae_jax.objective.config import LossConfig
from hicmae_jax.objective.pretrain import Levels, pretrain_loss
from hicmae_jax.preprocessing.pretrain import PreprocessConfig, preprocess_batch
from hicmae_jax.runs.by_set import sums_by_set
from hicmae_jax.training.accumulation import Batch, LossAndTerms, SplitLoss, Values


def pretrain_terms(
    model: HiCMAE,
    preprocess: PreprocessConfig,
    loss: LossConfig,
    seed: int,
    mesh: jax.sharding.Mesh,
    sets: NamedSets | None = None,
) -> LossAndTerms:
    """The pre-training loss as a function of (parameters, batch, step).

    Args:
        model: the pre-training model.
        preprocess: augmentation and masks.
        loss: choices of the objective.
        seed: seed of augmentation and masks; the same in all steps of a run.
        mesh: the devices that hold the batches.
        sets: the sets whose losses are logged; None for none.

    Returns:
        A function that returns the total loss and all terms, as scalars, and the sums of `sums_by_set`.
    """

    def terms(params: Any, batch: Batch, step: jax.Array) -> tuple[jax.Array, Values]:
        # Make the key inside the traced function. A key from outside would be an array on a device, which
        # compilation would copy to the host.
        inputs = preprocess_batch(batch, jax.random.key(seed), step, preprocess)
        total, values = pretrain_loss(model, params, inputs, loss, mesh, of_clips=sets is not None)
        return total, _scalars(_summed(values, batch, sets))

    return terms


def pretrain_split_loss(
    model: HiCMAE,
    preprocess: PreprocessConfig,
    loss: LossConfig,
    seed: int,
    mesh: jax.sharding.Mesh,
    sets: NamedSets | None = None,
) -> SplitLoss:
    """The same loss in two parts, for micro-batches whose negatives come from the whole batch.

    The arguments are those of `pretrain_terms`.
    """

    def features(params: Any, batch: Batch, step: jax.Array) -> Levels:
        inputs = preprocess_batch(batch, jax.random.key(seed), step, preprocess)
        return objective.encode_levels(model, params, inputs)

    def mean(params: Any, batch: Batch, step: jax.Array) -> tuple[jax.Array, Values, Levels]:
        inputs = preprocess_batch(batch, jax.random.key(seed), step, preprocess)
        total, values, levels = objective.reconstruction_loss_and_levels(
            model, params, inputs, loss, of_clips=sets is not None
        )
        return total, _summed(values, batch, sets), levels

    def contrast(features: Levels) -> tuple[jax.Array, Values]:
        values = objective.contrastive_terms(features, loss, mesh)
        return loss.contrastive_weight * values["contrastive"], _scalars(values)

    return SplitLoss(features, mean, contrast)


def _summed(terms: Values, batch: Batch, sets: NamedSets | None) -> Values:
    return terms if sets is None else sums_by_set(terms, batch, sets)


def _scalars(terms: Values) -> Values:
    """The terms, with `contrastive_levels`, float32[levels], split into scalars `contrastive_level_0`, …."""
    scalars = {name: term for name, term in terms.items() if name != "contrastive_levels"}
    return scalars | {f"contrastive_level_{i}": level for i, level in enumerate(terms["contrastive_levels"])}
