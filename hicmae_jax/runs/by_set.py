"""What a run of several prepared sets logs of each: its share of the clips and, if asked for, its losses.

The losses of a set are summed inside the step, so that no other pass over the batch is needed. They are
means over the clips of this set in the step. The loss of reconstruction of a clip does not depend on the
other clips of the batch; the contrastive loss does, so it stays one number.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data_pipeline.reading.named_sets import NamedSets
from hicmae_jax.objective.pretrain import OF_CLIPS, Terms
from hicmae_jax.training.accumulation import Batch, Gradient, Values

_CLIPS = "clips_by_set"


def with_shares(values: Mapping[str, float], examples: np.ndarray, sets: NamedSets) -> dict[str, float]:
    """The metrics of a step, with the share of each set.

    Args:
        values: metrics of the step.
        examples: int[B], ids of the clips of the step, over all hosts.
        sets: the sets of the run.

    Returns:
        The same metrics and `data/share/<name>`, without the losses of sets that have no clip in the step.
    """
    shares = sets.shares(examples)
    absent = {f"loss/{term}/{name}" for name, share in shares.items() if not share for term in OF_CLIPS}
    kept = {name: value for name, value in values.items() if name not in absent}
    return kept | {f"data/share/{name}": share for name, share in shares.items()}


def sums_by_set(terms: Terms, batch: Batch, sets: NamedSets) -> Values:
    """The terms of a batch, with sums over the clips of each set in place of the losses of the clips.

    Args:
        terms: of the objective, with those of each clip.
        batch: has int32[B] `example`.
        sets: the sets of the run.

    Returns:
        The other terms; float32[sets], the sum over the clips of each set, in place of the float32[B] of the
        clips; and float32[sets], the number of clips of each set.
    """
    numbers = (batch["example"][:, None] >= np.array(sets.first_examples, np.int32)).sum(1) - 1
    own = numbers[:, None] == np.arange(len(sets.names))
    # Chosen, not multiplied: a loss that is not finite must not spread to other sets.
    sums = {name: jnp.where(own, terms[name][:, None], 0).sum(0) for name in OF_CLIPS.values()}
    return {**terms, **sums, _CLIPS: own.sum(0, dtype=jnp.float32)}


def means_by_set(gradient: Gradient, sets: NamedSets) -> Gradient:
    """A gradient whose terms are scalars: the sums of `sums_by_set` become means.

    Args:
        gradient: its terms are from `sums_by_set`, or means of those over micro-batches.
        sets: the sets of the run.

    Returns:
        The gradient with the terms `video/<name>` and `audio/<name>`, NaN for a set without a clip.
    """

    def with_means(params: Any, batch: Batch, step: jax.Array) -> tuple[Values, Any]:
        values, grads = gradient(params, batch, step)
        clips = values.pop(_CLIPS)
        for term, name in OF_CLIPS.items():
            # Both are divided by the number of micro-batches, or none is.
            means = values.pop(name) / clips
            values |= {f"{term}/{one}": means[i] for i, one in enumerate(sets.names)}
        return values, grads

    return with_means
