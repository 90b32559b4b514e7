"""Learning rates by width: a matrix that is twice as wide as in another model learns at half the rate.

So a rate that is found on a narrow model can be tried on a wide one. For matrices and Adam this is the rule
of the maximal update parametrisation (Yang et al. 2022, arXiv 2203.03466, table 3). Nothing else of it is
here: initial values and the scale of attention stay as they are.
"""

from typing import Any

import jax
import optax

from hicmae_jax.training import path_rules


def rate_factors(params: Any, base: tuple[int, int]) -> Any:
    """Learning-rate factors of a pre-training model's parameters, by fan-in.

    The factor of a matrix is its fan-in in the base model over its own. Each matrix has its own, because
    encoders and decoders do not widen alike from size to size. Vectors, mask tokens and patch embeddings keep
    their rate: their fan-in is the same in every size.

    Args:
        params: parameters or their shapes; encoder blocks may be stacked or separate.
        base: width of the encoders and of the decoders of the model for which the rate was found.

    Returns:
        A tree with a float for each parameter.
    """

    def by_fan_in(of_base: int) -> Any:
        return lambda _, leaf: of_base / leaf.shape[-2]

    encoder, decoder = base
    rules: tuple[path_rules.Rule, ...] = (
        (r"(^|/)(bias|q_bias|v_bias|scale|mask_token|mask_token_audio)$|/patch_embed/kernel$", 1.0),
        (r"^decoder(_audio)?/.*/fc2/kernel$", by_fan_in(4 * decoder)),
        (r"^decoder(_audio)?/.*kernel$", by_fan_in(decoder)),
        (r"^encoder\w*/.*/fc2/kernel$", by_fan_in(4 * encoder)),
        (r"^encoder\w*/.*kernel$", by_fan_in(encoder)),  # encoders, fusion, encoder_to_decoder
    )
    return path_rules.match(rules, params)


def scale_rates(inner: optax.GradientTransformation, factors: Any) -> optax.GradientTransformation:
    """Scale the updates of `inner`; the state stays that of `inner`, so checkpoints do not change.

    Weight decay that is added after it is not scaled: rate times decay is the same at any width.
    """

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, state = inner.update(updates, state, params)
        return jax.tree.map(lambda update, factor: update * factor, updates, factors), state

    return optax.GradientTransformation(inner.init, update)
