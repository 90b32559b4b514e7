"""The optimiser: AdamW as in the published runs (paper section 4.1), or alternatives for large batches.

By default, the schedule, the decay mask and the layer-wise rates are the published ones.
`docs/large_batch.md` describes the alternatives.
"""

import dataclasses
import math
from typing import Any

import jax
import numpy as np
import optax

from data_pipeline.common.setting import check_limits, setting
from hicmae_jax.training import path_rules, schedules, trust_ratio, width_rule

KINDS = ("adamw", "lamb")
RATE_RULES = ("linear", "sqrt", "fixed")
SHAPES = ("cosine", "wsd")

# 1-D parameters, biases and the video mask token do not decay. The audio mask token does: the published code
# exempts a mask token only by the exact name `mask_token`. The rules match names and not ranks, because
# stacked biases are matrices.
DECAY_RULES: tuple[path_rules.Rule, ...] = (
    (r"(^|/)(bias|q_bias|v_bias|scale|\w+_layer_weights|mask_token)$", False),
    (r"(^|/)(kernel|mask_token_audio)$", True),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Choices of the optimiser. The defaults are the pre-training recipe; `FINETUNE` is for fine-tuning.

    Raises:
        ValueError: one line with the setting, its value and what is allowed.
    """

    kind: str = setting(
        "adamw", "lamb is AdamW with each decayed matrix's update scaled to the matrix's norm", choices=KINDS
    )
    base_rate: float = setting(3e-4, "peak learning rate at batch 256")
    base_minimum: float = setting(1e-5, "final learning rate at batch 256")
    rate_rule: str = setting(
        "linear",
        "how the rates follow the batch: in proportion to it, to its square root, or not at all",
        choices=RATE_RULES,
    )
    batch: int = setting(160, "clips in a global batch", at_least=1)
    epochs: int = setting(100, "length of the schedule")
    warmup_epochs: int = setting(5, "linear warm-up within `epochs`; 0 beside `warmup_examples`")
    warmup_examples: int | None = setting(
        None, "clips that the warm-up sees, rounded up to whole steps; none counts epochs"
    )
    steps_per_epoch: int = setting(meaning="updates in an epoch")
    shape: str = setting(
        "cosine",
        "after warm-up half a cosine, or stable until a decay at the end (wsd)",
        name="schedule",
        choices=SHAPES,
    )
    decay_share: float = setting(
        0.2, "share of all steps, at the end, in which a wsd schedule decays", above=0, at_most=1
    )
    clip: float | None = setting(
        None, "largest norm of the whole gradient; a larger gradient is scaled down to it; none: any", above=0
    )
    betas: tuple[float, float] = setting((0.9, 0.95), "Adam's two decay factors", at_least=0, below=1)
    epsilon: float = setting(1e-8, "Adam's, added to the square root", above=0)
    weight_decay: float = setting(0.05, "decoupled; multiplied by the rate", at_least=0)
    layer_decay: float = setting(
        1.0, "rate factor from one layer to the layer below, from the head down", above=0, at_most=1
    )

    base_width: tuple[int, int] | None = setting(
        None,
        "widths of encoders and decoders of the model for which the rates were found; here, a matrix that is "
        "n times as wide has 1/n of the rate; none: all matrices have one rate",
        at_least=1,
    )

    def __post_init__(self) -> None:
        """Check the choices."""
        check_limits(self)
        if self.base_width is not None and self.kind == "lamb":
            raise ValueError(
                f"base_width {self.base_width} is for adamw: with optimizer.kind = 'lamb', an update has the "
                "norm of its matrix at any width; leave one of them out"
            )
        if self.warmup_examples is not None and (self.warmup_epochs or self.warmup_examples < 0):
            raise ValueError(
                f"warmup_examples {self.warmup_examples} must be at least 0, and warmup_epochs "
                f"{self.warmup_epochs} be 0 beside it"
            )
        if self.steps_per_epoch < 1 or not 0 <= self.warmup_epochs < self.epochs:
            raise ValueError(
                f"steps_per_epoch {self.steps_per_epoch} must be at least 1 and warmup_epochs "
                f"{self.warmup_epochs} in 0 … {self.epochs - 1}, short of the {self.epochs} epochs"
            )
        if not 0 <= self.base_minimum <= self.base_rate:
            raise ValueError(f"base_minimum {self.base_minimum} is not in 0 … base_rate {self.base_rate}")

    @property
    def warmup_steps(self) -> int:
        """Updates of the warm-up."""
        if self.warmup_examples is None:
            return self.warmup_epochs * self.steps_per_epoch
        return -(-self.warmup_examples // self.batch)

    @property
    def decay_steps(self) -> int:
        """Updates of the decay of a `wsd` schedule, at least one."""
        return max(round(self.decay_share * self.epochs * self.steps_per_epoch), 1)

    def schedule(self) -> optax.Schedule:
        """The learning rate by step, scaled to the batch by `rate_rule`.

        Raises:
            ValueError: warm-up and decay take more steps than the run has; names their settings.
        """
        factor = rate_factor(self.rate_rule, self.batch)
        rates = self.base_rate * factor, self.base_minimum * factor
        total, warmup = self.epochs * self.steps_per_epoch, self.warmup_steps
        if warmup >= total:
            raise ValueError(
                f"warmup_examples {self.warmup_examples} take {warmup} steps of batch {self.batch}, of "
                f"{total} in all: warm up for fewer"
            )
        if self.shape == "cosine":
            return schedules.warmup_cosine(*rates, warmup, total)
        if warmup + self.decay_steps > total:
            raise ValueError(
                f"optimizer.decay_share {self.decay_share} is {self.decay_steps} of {total} steps, which "
                f"leaves too few for a warm-up of {warmup}: shorten one of them"
            )
        return schedules.warmup_stable_decay(*rates, warmup, total, self.decay_steps)


# The fine-tuning recipe. A data set may need other epochs and another batch.
FINETUNE: dict[str, Any] = {
    "base_rate": 1e-3,
    "base_minimum": 1e-6,
    "batch": 56,
    "epochs": 50,
    "betas": (0.9, 0.999),
    "layer_decay": 0.75,
}


def rate_factor(rule: str, batch: int) -> float:
    """The factor by which one of `RATE_RULES` scales the learning rates given for batch 256."""
    return {"linear": batch / 256, "sqrt": math.sqrt(batch / 256), "fixed": 1.0}[rule]


def decay_mask(params: Any) -> Any:
    """A tree of booleans: whether each parameter decays.

    Raises:
        ValueError: no rule covers a parameter, or a rule covers none.
    """
    return path_rules.match(DECAY_RULES, params)


def layer_scales(params: Any, decay: float) -> Any:
    """Learning-rate factors of a fine-tuning model's parameters, by layer.

    A layer's factor is decay^(L + 1 − id), where L = N_s + N_f is the number of encoder and fusion blocks.
    The id is 0 for the patch embeddings, 1 + i for encoder block i, 1 + N_s + i for fusion block i, and
    L + 1 for everything else (norms, layer weights, head).

    Args:
        params: fine-tuning parameters or their shapes; encoder blocks may be stacked or separate.
        decay: factor from one layer to the layer below.

    Returns:
        A tree with a float for each parameter; for stacked encoder parameters float32[N_s, 1, …].
    """
    paths = [path_rules.path_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
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

    table: list[path_rules.Rule] = [(r"^encoder(_audio)?/patch_embed/", decay**top)]
    if stacked:
        table.append((r"^encoder(_audio)?/blocks/", stacked_scale))
    else:
        table.append((r"^encoder(_audio)?/blocks_(\d+)/", lambda m, _: decay ** (top - 1 - int(m[2]))))
    if fusion_depth:
        table.append(
            (r"^encoder_fusion/blocks(_audio)?_(\d+)/", lambda m, _: decay ** (top - 1 - depth - int(m[2])))
        )
    table.append((r"(^|/)(norm|norm_audio|fc_norm|head)/\w+$|^(video|audio)_layer_weights$", 1.0))
    return path_rules.match(table, params)


def make_optimizer(config: OptimizerConfig, params: Any) -> optax.GradientTransformation:
    """AdamW or LAMB with the recipe's schedule, decay mask and layer-wise rates.

    Args:
        config: the choices.
        params: parameters or their shapes, to which the rules for decay and rates are applied.

    Returns:
        An optax transformation; its updates are added to the parameters.
    """
    decays = decay_mask(params)
    layers = []
    if config.kind == "lamb":
        # Only decayed parameters are scaled. The norm of the others says little: they are vectors of few
        # numbers, and biases start at zero.
        layers.append(trust_ratio.scale_by_trust_ratio(decays))
    if config.layer_decay != 1:
        scales = layer_scales(params, config.layer_decay)
        # After the weight decay in the chain: the factor also scales the decay, like the learning rate of a
        # PyTorch parameter group.
        layers.append(
            optax.stateless(lambda updates, _: jax.tree.map(lambda u, scale: u * scale, updates, scales))
        )
    moments = optax.scale_by_adam(*config.betas, eps=config.epsilon)
    if config.clip is not None:
        moments = _clipped(moments, config.clip)
    if config.base_width is not None:
        moments = width_rule.scale_rates(moments, width_rule.rate_factors(params, config.base_width))
    return optax.chain(
        moments,
        optax.add_decayed_weights(config.weight_decay, mask=decays),
        *layers,
        optax.scale_by_learning_rate(config.schedule()),
    )


def _clipped(inner: optax.GradientTransformation, norm: float) -> optax.GradientTransformation:
    """Clip the gradients before `inner`; the state is unchanged, so a resumed run may begin to clip."""
    clip = optax.clip_by_global_norm(norm)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return inner.update(clip.update(updates, optax.EmptyState())[0], state, params)

    return optax.GradientTransformation(inner.init, update)
