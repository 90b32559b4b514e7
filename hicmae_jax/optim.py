"""AdamW as the published runs use it: schedule, decay mask, layer-wise rates (paper section 4.1)."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hicmae_jax import rules

# No decay on 1-D parameters, biases and the video mask token; the published code does decay the audio
# one, because it exempts by the exact name. By name and not by rank: stacked biases are matrices.
DECAY_RULES: tuple[rules.Rule, ...] = (
    (r"(^|/)(bias|q_bias|v_bias|scale|\w+_layer_weights|mask_token)$", False),
    (r"(^|/)(kernel|mask_token_audio)$", True),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Choices of the optimiser; the defaults are the pre-training recipe, `FINETUNE` the other one.

    Attributes:
        base_rate: peak learning rate at batch 256; the rate in use is proportional to the batch.
        base_minimum: final learning rate at batch 256.
        batch: clips in a global batch.
        epochs: of the whole schedule.
        warmup_epochs: linear warm-up, within `epochs`.
        steps_per_epoch: updates in an epoch.
        betas: Adam's two decays.
        epsilon: Adam's, outside the square root.
        weight_decay: decoupled, times the rate.
        layer_decay: factor a layer from the head down (1: the same rate everywhere).
    """

    base_rate: float = 3e-4
    base_minimum: float = 1e-5
    batch: int = 160
    epochs: int = 100
    warmup_epochs: int = 5
    steps_per_epoch: int
    betas: tuple[float, float] = (0.9, 0.95)
    epsilon: float = 1e-8
    weight_decay: float = 0.05
    layer_decay: float = 1.0

    def __post_init__(self) -> None:
        """Check the choices.

        Raises:
            ValueError: naming the field, its value and what would do.
        """
        if self.steps_per_epoch < 1 or not 0 <= self.warmup_epochs < self.epochs:
            raise ValueError(
                f"steps_per_epoch {self.steps_per_epoch} must be at least 1 and warmup_epochs "
                f"{self.warmup_epochs} in 0 … {self.epochs - 1}, short of the {self.epochs} epochs"
            )
        if self.batch < 1:
            raise ValueError(f"batch {self.batch} must be at least 1: the rate is proportional to it")
        if not 0 <= self.base_minimum <= self.base_rate:
            raise ValueError(f"base_minimum {self.base_minimum} is not in 0 … base_rate {self.base_rate}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas {self.betas} are not in [0, 1)")
        if self.epsilon <= 0:
            raise ValueError(f"epsilon {self.epsilon} is not positive")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay {self.weight_decay} is negative")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay {self.layer_decay} is not in (0, 1]")

    def schedule(self) -> optax.Schedule:
        """Learning rate by step, scaled by the batch."""
        return warmup_cosine(
            self.base_rate * self.batch / 256,
            self.base_minimum * self.batch / 256,
            self.warmup_epochs * self.steps_per_epoch,
            self.epochs * self.steps_per_epoch,
        )


# Fine-tuning (a data set may change epochs and batch).
FINETUNE: dict[str, Any] = {
    "base_rate": 1e-3,
    "base_minimum": 1e-6,
    "batch": 56,
    "epochs": 50,
    "betas": (0.9, 0.999),
    "layer_decay": 0.75,
}


def warmup_cosine(peak: float, minimum: float, warmup_steps: int, total_steps: int) -> optax.Schedule:
    """Linear warm-up, then half a cosine.

    Step 0 has rate 0, and the peak comes twice: at the last warm-up step and the first cosine one, since
    warm-up is `linspace(0, peak, warmup_steps)` and the cosine starts at phase 0. Steps past the end
    repeat the last rate.

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


def decay_mask(params: Any) -> Any:
    """Which parameters decay: a tree of booleans.

    Raises:
        ValueError: if a parameter is covered by no rule.
    """
    return rules.match(DECAY_RULES, params)


def layer_scales(params: Any, decay: float) -> Any:
    """Layer-wise rate factors of a fine-tuning tree.

    Factor decay^(L + 1 − id) with L = N_s + N_f; id 0 for the patch embeddings, 1 + i for encoder block
    i, 1 + N_s + i for fusion block i, L + 1 for everything else (norms, layer weights, head).

    Args:
        params: fine-tuning parameters or their shapes, with stacked or per-layer encoders.
        decay: factor a layer.

    Returns:
        A tree of floats; of float32[N_s, 1, …] for stacked encoder parameters.
    """
    paths = [rules.path_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    stacks = [name for name in ("encoder", "encoder_audio") if name in params]
    stacked = any("blocks" in params[name] for name in stacks)
    if stacked:
        blocks = params[stacks[0]]["blocks"]
        depth = jax.tree_util.tree_leaves(blocks)[0].shape[0]
    else:
        depth = sum(path.startswith(f"{stacks[0]}/blocks_") and path.endswith("norm1/bias") for path in paths)
    fusion_depth = sum(
        path.startswith("encoder_fusion/blocks_audio_") and path.endswith("/norm1/bias") for path in paths
    )
    top = depth + fusion_depth + 1

    def stacked_scale(_: Any, leaf: Any) -> np.ndarray:
        ids = 1 + np.arange(depth)
        return np.float32(decay ** (top - ids)).reshape(-1, *[1] * (len(leaf.shape) - 1))

    table: list[rules.Rule] = [(r"^encoder(_audio)?/patch_embed/", decay**top)]
    if stacked:
        table.append((r"^encoder(_audio)?/blocks/", stacked_scale))
    else:
        table.append((r"^encoder(_audio)?/blocks_(\d+)/", lambda m, _: decay ** (top - 1 - int(m[2]))))
    if fusion_depth:
        table.append(
            (r"^encoder_fusion/blocks(_audio)?_(\d+)/", lambda m, _: decay ** (top - 1 - depth - int(m[2])))
        )
    table.append((r"(^|/)(norm|norm_audio|fc_norm|head)/\w+$|^(video|audio)_layer_weights$", 1.0))
    return rules.match(table, params)


def adamw(config: OptimizerConfig, params: Any) -> optax.GradientTransformation:
    """AdamW with the recipe's schedule, decay mask and layer-wise rates.

    Args:
        config: the choices.
        params: parameters or their shapes, for the rules.

    Returns:
        An optax transformation; its updates are added to the parameters.
    """
    layers = []
    if config.layer_decay != 1:
        scales = layer_scales(params, config.layer_decay)
        # On the whole curve: the factor multiplies the decay too, as a parameter group's own rate does.
        layers.append(
            optax.stateless(lambda updates, _: jax.tree.map(lambda u, scale: u * scale, updates, scales))
        )
    return optax.chain(
        optax.scale_by_adam(*config.betas, eps=config.epsilon),
        optax.add_decayed_weights(config.weight_decay, mask=decay_mask(params)),
        *layers,
        optax.scale_by_learning_rate(config.schedule()),
    )
