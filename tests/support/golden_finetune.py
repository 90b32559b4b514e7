"""Computing the goldens of the fine-tuning recipe: groups of parameters, and steps of the optimiser."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hicmae_jax.model import sizes
from hicmae_jax.model.config import FinetuneConfig, ModelConfig
from hicmae_jax.model.finetune import HiCMAEFinetune
from hicmae_jax.objective.finetune import regression_loss, soft_cross_entropy
from hicmae_jax.preprocessing.mixing import smooth
from hicmae_jax.training import optimizer as optim
from hicmae_jax.weights import torch_names
from tests.goldens import finetune_recipe
from tests.support import golden_jax
from tests.support.golden_cases import LABEL_SMOOTHING, Golden, GoldenError, Quantities

LOSSES = {f"cross-entropy, smoothing {LABEL_SMOOTHING}": "cross_entropy", "mse": "mse", "ccc": "ccc"}


def _template(config: ModelConfig, outputs: int) -> tuple[HiCMAEFinetune, Any]:
    """A fine-tuning model and the shapes of its parameters."""
    model = HiCMAEFinetune(config, FinetuneConfig(outputs=outputs))
    side = config.image_size
    video = jax.ShapeDtypeStruct((1, config.frames, side, side, 3), jnp.uint8)
    log_mel = jax.ShapeDtypeStruct((1, config.audio_frames, config.audio_bins), jnp.float32)
    return model, jax.eval_shape(model.init, jax.random.key(0), video, log_mel)["params"]


def groups(golden: Golden) -> tuple[Quantities, list[str]]:
    """Rates and decay that the fine-tuning recipe gives to each parameter, and rates by step."""
    config = sizes.model_config(golden.config["size"])
    _, template = _template(config, golden.config["classes"])
    shapes = torch_names.shapes(template, config.patch)
    names = list(shapes)
    recipe = optim.OptimizerConfig(**optim.FINETUNE, steps_per_epoch=1)
    scales = golden_jax.by_name(optim.layer_scales(template, recipe.layer_decay), names)
    top = config.encoder_depth + config.fusion_depth + 1
    quantities = {
        "layer_id": top - np.log(scales.astype(np.float64)) / np.log(recipe.layer_decay),
        "lr_scale": scales,
        "weight_decay": recipe.weight_decay * golden_jax.by_name(optim.decay_mask(template), names),
        "parameters": np.array(sum(int(np.prod(shape)) for shape in shapes.values())),
    }
    for number, run in enumerate(golden.config["runs"]):
        choices = {"batch": run["batch"], "epochs": run["epochs"], "warmup_epochs": run["warmup"]}
        steps_per_epoch = run["clips"] // run["batch"]
        of_run = optim.OptimizerConfig(**optim.FINETUNE | choices, steps_per_epoch=steps_per_epoch)
        rates = golden_jax.schedule_of(of_run)
        quantities[f"run{number}_rate"] = rates[golden.arrays[f"run{number}_steps"]]
    return quantities, names


def _targets(golden: Golden, step: int) -> jax.Array:
    """Soft targets or dimensions float32[B, outputs] of a training step."""
    config = golden.config
    seed, batch, outputs = config["seed"] + 1000 * step + 4, config["batch"], config["outputs"]
    if config["task"] == "regression":
        return jnp.asarray(finetune_recipe.dimensions(seed, batch, outputs))
    labels = jax.nn.one_hot(finetune_recipe.labels(seed, batch, outputs), outputs)
    return smooth(labels, LABEL_SMOOTHING)


def finetune_steps(golden: Golden) -> tuple[Quantities, list[str]]:
    """Every quantity of some steps of fine-tuning, and the model's names.

    Raises:
        GoldenError: another loss, or stochastic depth.
    """
    kind = LOSSES.get(golden.config["loss"])
    if kind is None or golden.config["drop_path"]:
        raise GoldenError(
            f"{golden.path}: loss {golden.config['loss']!r} must be one of {', '.join(map(repr, LOSSES))}, "
            f"and drop_path {golden.config['drop_path']} must be 0"
        )
    model, template = _template(golden.model_config(), golden.config["outputs"])
    params, names = golden_jax.recipe_weights(golden, template)

    def loss(params: Any, video: jax.Array, log_mel: jax.Array, targets: jax.Array) -> tuple[jax.Array, Any]:
        outputs = model.apply({"params": params}, video, log_mel).logits
        if kind == "cross_entropy":
            return soft_cross_entropy(outputs, targets), outputs
        return regression_loss(kind, outputs, targets), outputs

    backward = jax.jit(jax.value_and_grad(loss, has_aux=True))
    config = golden_jax.optimizer_config(golden.config["train"])
    update, state = golden_jax.make_update(config, params)
    losses, outputs, norms = [], [], []
    for step in range(golden.steps + 1):
        (value, scores), gradient = backward(params, *golden.clips(step), _targets(golden, step))
        losses.append(float(value))
        outputs.append(np.asarray(scores))
        norms.append(golden_jax.norms_of(golden, gradient))
        if step < golden.steps:
            params, state = update(params, state, gradient)
    return {
        "trajectory": np.array(losses[:-1]),
        "trajectory_grad_norm": np.linalg.norm(norms[:-1], axis=1),
        "trajectory_outputs": np.stack(outputs[:-1]),
        "grad_norms": norms[0],
        "grad_norms_last": norms[-2],
        "schedule": golden_jax.schedule_of(config),
        "final_param_norms": golden_jax.norms_of(golden, params),
        "final_outputs": outputs[-1],
    }, names
