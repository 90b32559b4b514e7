"""Learning rates by step: the published cosine, and a stable rate with a decay at the end.

Both start with a linear warm-up from 0 to the peak, `linspace(0, peak, warmup_steps)`, and end at a minimum.
"""

import jax
import jax.numpy as jnp
import optax


def warmup_cosine(peak: float, minimum: float, warmup_steps: int, total_steps: int) -> optax.Schedule:
    """Linear warm-up, then half a cosine.

    The warm-up is `linspace(0, peak, warmup_steps)`, so the rate of step 0 is 0. Two steps have the peak
    rate: the last step of the warm-up, and the first step of the cosine, whose phase is 0. Steps after the
    end repeat the last rate.

    Args:
        peak: highest rate.
        minimum: rate that the cosine approaches.
        warmup_steps: number of warm-up steps, 0 for none.
        total_steps: number of all steps, more than `warmup_steps`.

    Returns:
        Function from an integer step (number or array) to a float32 rate.

    Raises:
        ValueError: no step is left for the cosine.
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

    Before the decay, the rate depends only on the step, so runs of many lengths can branch from one run. The
    decay is `1 - sqrt(phase)`, the best of the shapes that Hägele et al. (2024, arXiv 2405.18392) compare.
    Phases are counted as in the cosine, so the first step of the decay still has the peak rate. Steps after
    the end repeat the last rate.

    Args:
        peak: the constant rate.
        minimum: rate that the decay approaches.
        warmup_steps: number of warm-up steps, 0 for none.
        total_steps: number of all steps.
        decay_steps: number of decay steps at the end, at least 1.

    Returns:
        Function from an integer step (number or array) to a float32 rate.

    Raises:
        ValueError: warm-up and decay take more than all steps, or the decay has no step.
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
        # Use `peak`, not `falling` at phase 0: the rounding of `falling` may depend on the run's length.
        stable = jnp.where(step < first, peak, falling)
        return jnp.where(step < warmup_steps, rising, stable).astype(jnp.float32)

    return rate
