"""Learning rates by step: the published cosine, and a stable rate with a decay at the end.

Both start with a linear warm-up from 0 to the peak, `linspace(0, peak, warmup_steps)`, and end at a minimum.
"""

import jax
import jax.numpy as jnp
import optax


def warmup_cosine(peak: float, minimum: float, warmup_steps: int, total_steps: int) -> optax.Schedule:
    """Linear warm-up, then half a cosine.

    Step 0 has rate 0. Two steps have the peak: the last one of the warm-up, which is
    `linspace(0, peak, warmup_steps)`, and the first one of the cosine, which starts at phase 0. Steps after
    the end repeat the last rate.

    Args:
        peak: highest rate.
        minimum: rate the cosine tends to.
        warmup_steps: steps of warm-up, 0 for none.
        total_steps: steps in all, more than `warmup_steps`.

    Returns:
        Function from an integer step (number or array) to a float32 rate.

    Raises:
        ValueError: if no step is left for the cosine.
    """
    cosine_steps = total_steps - warmup_steps
    if cosine_steps < 1:
        raise ValueError(f"warm-up of {warmup_steps} steps leaves nothing of {total_steps}")

    def rate(step: jax.typing.ArrayLike) -> jax.Array:
        step = jnp.asarray(step)
        rising = peak * step / max(warmup_steps - 1, 1)
        phase = jnp.clip(step - warmup_steps, 0, cosine_steps - 1) / cosine_steps
        falling = minimum + 0.5 * (peak - minimum) * (1 + jnp.cos(jnp.pi * phase))
        return jnp.where(step < warmup_steps, rising, falling).astype(jnp.float32)

    return rate


def warmup_stable_decay(
    peak: float, minimum: float, warmup_steps: int, total_steps: int, decay_steps: int
) -> optax.Schedule:
    """Linear warm-up, a constant rate, and a decay at the end (Hu et al. 2024, arXiv 2404.06395).

    Before the decay the rate depends only on the step, so checkpoints of one run can be branched into runs of
    many lengths. The decay is `1 - sqrt(phase)`, the best of those that Hägele et al.
    (2024, arXiv 2405.18392) compare. Its first step still has the peak, phases are those of the cosine.
    Steps past the end repeat the last rate.

    Args:
        peak: the stable rate.
        minimum: rate the decay tends to.
        warmup_steps: steps of warm-up, 0 for none.
        total_steps: steps in all.
        decay_steps: the last so many of them, at least 1.

    Returns:
        Function from an integer step (number or array) to a float32 rate.

    Raises:
        ValueError: if warm-up and decay are more than all steps, or there is no decay.
    """
    first = total_steps - decay_steps
    if decay_steps < 1 or first < warmup_steps:
        raise ValueError(
            f"warm-up of {warmup_steps} steps and a decay of {decay_steps} do not fit into {total_steps}"
        )

    def rate(step: jax.typing.ArrayLike) -> jax.Array:
        step = jnp.asarray(step)
        rising = peak * step / max(warmup_steps - 1, 1)
        phase = jnp.clip(step - first, 0, decay_steps - 1) / decay_steps
        falling = minimum + (peak - minimum) * (1 - jnp.sqrt(phase))
        # The peak itself and not `falling` at phase 0, whose rounding would depend on the length of the run.
        stable = jnp.where(step < first, peak, falling)
        return jnp.where(step < warmup_steps, rising, stable).astype(jnp.float32)

    return rate
