"""Computing a golden case with the JAX code."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict

from data_pipeline.media import log_mel as host
from hicmae_jax.model import masking
from hicmae_jax.model.config import FinetuneConfig
from hicmae_jax.model.finetune import HiCMAEFinetune
from hicmae_jax.model.hicmae import HiCMAE
from hicmae_jax.model.inputs import ModelInputs
from hicmae_jax.objective import losses
from hicmae_jax.objective import pretrain as objective
from hicmae_jax.preprocessing import audio, video
from hicmae_jax.training import optimizer as optim
from hicmae_jax.weights import torch_names
from tests.goldens import recipe
from tests.support import golden_cases, golden_compare
from tests.support.golden_cases import Golden, Quantities
from tests.support.golden_compare import Line


def pretrain_inputs(golden: Golden, step: int = 0) -> ModelInputs:
    """Inputs of the JAX pre-training model at a training step."""
    return ModelInputs(*map(jnp.asarray, golden.clips(step)), *map(masking.from_boolean, golden.masks(step)))


def recipe_weights(golden: Golden, template: Any) -> tuple[Any, list[str]]:
    """The case's parameters in the template's structure, stacked or not, and their PyTorch names."""
    patch = golden.model_config().patch
    shapes = torch_names.shapes(template, patch)
    params = torch_names.parameters(golden_cases.weights(shapes), template, patch)
    return jax.tree.map(jnp.asarray, params), list(shapes)


def norms_of(golden: Golden, tree: Any) -> np.ndarray:
    """Norm of each parameter of a tree, by PyTorch name and in PyTorch's order."""
    state = torch_names.state_dict(tree, golden.model_config().patch)
    return np.array([np.linalg.norm(value.astype(np.float64)) for value in state.values()])


def pretrain(golden: Golden) -> tuple[Quantities, list[str]]:
    """Every quantity of a pre-training case, and the model's names."""
    model, config = HiCMAE(golden.model_config()), golden.loss_config()
    start = pretrain_inputs(golden)
    template = jax.eval_shape(model.init, jax.random.key(0), *start)["params"]
    params, names = recipe_weights(golden, template)

    def loss(params: Any, *clips: Any) -> tuple[jax.Array, Any]:
        output = model.apply({"params": params}, *clips)
        goals = objective.masked_targets(model, ModelInputs(*clips), config.frame_difference)
        terms = objective.loss_terms(output, *goals, config)
        return terms["total"], (output, goals, terms)

    backward = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (_, (output, goals, terms)), gradient = backward(params, *start)
    levels = zip(output.video_levels, output.audio_levels)
    logits = [losses.contrastive_logits(*pair, config.temperature) for pair in levels]
    batch = golden.config["batch"]
    norms = norms_of(golden, gradient)
    quantities = {
        "loss": terms["total"],
        "loss_video": terms["video"],
        "loss_audio": terms["audio"],
        "loss_contrastive": terms["contrastive_levels"],
        "pred_video": output.video,
        "pred_audio": output.audio,
        "target_video": goals[0],
        "target_audio": goals[1],
        "logits": np.stack(logits) if logits else np.zeros((0, batch, batch)),
        "grad_norms": norms,
        "grad_norm": np.linalg.norm(norms),
    }
    if golden.steps:
        quantities |= _trajectory(golden, params, backward)
    return quantities, names


def by_name(tree: Any, names: Sequence[str]) -> np.ndarray:
    """What a tree holds for each parameter, in the order of PyTorch names."""
    values = {torch_names.torch_name(path): value for path, value in flatten_dict(tree).items()}
    return np.array([values[name] for name in names])


def optimizer_config(train: dict[str, Any]) -> optim.OptimizerConfig:
    """The optimiser that `config.train` of a file describes."""
    return optim.OptimizerConfig(
        base_rate=train["lr"],
        base_minimum=train["min_lr"],
        batch=256,  # the rates of the file are those of its batch already
        epochs=train["epochs"],
        warmup_epochs=train["warmup_epochs"],
        steps_per_epoch=train["steps_per_epoch"],
        betas=tuple(train["betas"]),
        weight_decay=train["weight_decay"],
        layer_decay=train.get("layer_decay", 1.0),
    )


def schedule_of(config: optim.OptimizerConfig) -> np.ndarray:
    """The rate of every step, before the layer's scale."""
    return np.asarray(config.schedule()(np.arange(config.epochs * config.steps_per_epoch)))


def make_update(config: optim.OptimizerConfig, params: Any) -> tuple[Any, Any]:
    """A compiled function (parameters, state, gradient) → (parameters, state), and the first state."""
    optimizer = optim.make_optimizer(config, params)

    @jax.jit
    def update(params: Any, state: Any, gradient: Any) -> tuple[Any, Any]:
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    return update, optimizer.init(params)


def _trajectory(golden: Golden, params: Any, backward: Any) -> Quantities:
    config = optimizer_config(golden.config["train"])
    update, state = make_update(config, params)
    table, norms = [], []
    for step in range(golden.steps):
        (_, (_, _, terms)), gradient = backward(params, *pretrain_inputs(golden, step))
        table.append([float(terms[name]) for name in ("total", "video", "audio", "contrastive")])
        norms.append(np.linalg.norm(norms_of(golden, gradient)))
        params, state = update(params, state, gradient)
    return {
        "trajectory": np.array(table),
        "trajectory_grad_norm": np.array(norms),
        "schedule": schedule_of(config),
        "final_param_norms": norms_of(golden, params),
    }


def finetune(golden: Golden) -> tuple[Quantities, list[str]]:
    """Every quantity of a fine-tuning case, and the model's names."""
    model = HiCMAEFinetune(golden.model_config(), FinetuneConfig(outputs=golden.config["num_classes"]))
    video, log_mel = map(jnp.asarray, golden.clips())
    template = jax.eval_shape(model.init, jax.random.key(0), video, log_mel)["params"]
    params, names = recipe_weights(golden, template)
    target = optax.smooth_labels(
        jax.nn.one_hot(golden.labels(), golden.config["num_classes"]), golden_cases.LABEL_SMOOTHING
    )

    def loss(params: Any) -> tuple[jax.Array, Any]:
        output = model.apply({"params": params}, video, log_mel)
        return optax.softmax_cross_entropy(output.logits, target).mean(), output

    (value, output), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)

    return {
        "logits": output.logits,
        "feature": output.feature,
        "loss": value,
        "grad_norms": norms_of(golden, gradient),
        "lr_scale": by_name(optim.layer_scales(params, golden_cases.LAYER_DECAY), names),
        "weight_decay": by_name(optim.decay_mask(params), names),
    }, names


def log_mel(golden: Golden) -> list[Line]:
    """Log-mel features, computed in both ways: on the host and on the device."""
    lines = []
    for name, expected in golden.arrays.items():
        waveform = golden_cases.log_mel_waveform(name)
        lines.append(golden_compare.log_mel_line(f"{name} host", expected, host.log_mel(waveform)))
        sound, samples = jnp.asarray(waveform)[None], jnp.array([len(waveform)])
        features = jax.jit(audio.log_mel)(audio.remove_mean(sound, samples), samples)
        lines.append(golden_compare.log_mel_line(f"{name} device", expected, np.asarray(features[0])))
    return lines


def crop_resize(golden: Golden) -> list[Line]:
    """The crops of one clip, computed on the device."""
    boxes, expected = golden.arrays["boxes"], golden.arrays["resized"]
    frames = recipe.video(31, 1, 2, 160).repeat(len(boxes), axis=0)
    resize = jax.jit(functools.partial(video.crop_resize_rounded, size=expected.shape[2]))
    actual = np.asarray(resize(frames, jnp.asarray(boxes)))
    triples = zip(boxes, expected, actual)
    return [line for triple in triples for line in golden_compare.crop_resize_lines(*triple)]
