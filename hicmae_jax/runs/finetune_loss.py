"""The fine-tuning loss of a host batch: preprocessing and mixing on the device, the model, the objective."""

from typing import Any

import jax
import numpy as np

from hicmae_jax.model.finetune import HiCMAEFinetune
from hicmae_jax.objective import finetune as objective
from hicmae_jax.preprocessing.finetune import preprocess_clips
from hicmae_jax.preprocessing.keys import clip_keys, step_key
from hicmae_jax.preprocessing.missing import draw_hidden, hide
from hicmae_jax.preprocessing.mixing import mix
from hicmae_jax.settings.finetune import FinetuneSettings
from hicmae_jax.training import freeze
from hicmae_jax.training.accumulation import Batch, LossAndTerms, Values


def finetune_terms(
    model: HiCMAEFinetune,
    config: FinetuneSettings,
    kind: str,
    weights: np.ndarray | None,
    frozen: Any,
) -> LossAndTerms:
    """The fine-tuning loss as a function of (parameters, batch, step).

    Args:
        model: the fine-tuning model.
        config: settings of the run.
        kind: name of the loss, from `FinetuneLossConfig.kind_for`.
        weights: float32[K], weights of the classes; None for equal ones.
        frozen: tree of booleans, which parameters are not trained.

    Returns:
        A function that returns the loss and its terms, as scalars. The batch has float32[B, K] `label`
        besides the arrays of a `HostBatch`.
    """
    classes = kind == objective.CROSS_ENTROPY
    drop_path = model.finetune.drop_path > 0

    def terms(params: Any, batch: Batch, step: jax.Array) -> tuple[jax.Array, Values]:
        # Make the key inside the traced function. A key from outside would be an array on a device, which
        # compilation would copy to the host.
        key = jax.random.key(config.seed)
        video, log_mel = preprocess_clips(batch, key, step, config.preprocess)
        targets = batch["label"]
        if classes:
            video, targets = mix(video, targets, step_key(key, "mixing", step), config.mixing)
        if share := config.tuning.modality_dropout:
            keys = clip_keys(key, "modality dropout", step, batch["example"])
            video, log_mel = hide(video, log_mel, *jax.vmap(lambda key: draw_hidden(key, share))(keys))
        # Micro-batches of one step have different clips, so each has its own key.
        drop_key = jax.random.fold_in(step_key(key, "drop path", step), batch["example"][0])
        output = model.apply(
            {"params": freeze.without_gradient(params, frozen)},
            video,
            log_mel,
            deterministic=not drop_path,
            rngs={"drop_path": drop_key} if drop_path else {},
        )
        logits = output.logits  # type: ignore[union-attr]  # Flax does not know the type of `apply`
        if classes:
            loss = objective.soft_cross_entropy(logits, targets, weights)
        else:
            loss = objective.regression_loss(kind, logits, targets)
        return loss, {"total": loss}

    return terms
