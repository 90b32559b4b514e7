"""Computing a golden case with the PyTorch file."""

import dataclasses
import re

import numpy as np
import torch
import torch.nn.functional as F

from hicmae_jax.weights import torch_model
from tests.support import golden_cases
from tests.support.golden_cases import Golden, Quantities

# Threads do not help with tensors this small, and on a busy machine they wait for each other.
torch.set_num_threads(1)


def config_of(model: object) -> torch_model.Config:
    """The PyTorch file's config for a `ModelConfig`: the fields with the same names."""
    names = [field.name for field in dataclasses.fields(torch_model.Config)]
    return torch_model.Config(**{name: getattr(model, name) for name in names})


def indices(mask: np.ndarray) -> torch_model.Mask:
    """Visible and masked indices of a boolean mask."""
    order = torch.from_numpy(np.argsort(mask, axis=1, kind="stable"))
    visible = mask.shape[1] - int(mask[0].sum())
    return order[:, :visible], order[:, visible:]


def load_weights(model: torch.nn.Module, state: dict[str, np.ndarray]) -> None:
    model.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in state.items()})


def _recipe_weights(model: torch.nn.Module) -> list[str]:
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    load_weights(model, golden_cases.weights(shapes))
    return list(shapes)


def _norms(tensors: dict[str, torch.Tensor | None]) -> np.ndarray:
    return np.array([0.0 if value is None else value.double().norm().item() for value in tensors.values()])


def _gradient_norms(model: torch.nn.Module) -> np.ndarray:
    return _norms({name: parameter.grad for name, parameter in model.named_parameters()})


def _decays(name: str, parameter: torch.Tensor) -> bool:
    return parameter.dim() > 1 and not name.endswith(".bias") and name != "mask_token"


def _schedule(train: dict) -> np.ndarray:
    warmup = train["warmup_epochs"] * train["steps_per_epoch"]
    n = train["epochs"] * train["steps_per_epoch"] - warmup
    half = 0.5 * (train["lr"] - train["min_lr"])
    return np.concatenate(
        [
            np.linspace(0, train["lr"], warmup),
            train["min_lr"] + half * (1 + np.cos(np.pi * np.arange(n) / n)),
        ]
    )


def pretrain(golden: Golden) -> tuple[Quantities, list[str]]:
    """Every quantity of a pre-training case, and the model's names."""
    objective = golden.loss_config()
    model = torch_model.PretrainModel(config_of(golden.model_config()), objective.frame_difference)
    names = _recipe_weights(model)
    assert names == [name for name, _ in model.named_parameters()]

    def backward(step: int) -> tuple[torch_model.Output, dict]:
        output = model(*map(torch.from_numpy, golden.clips(step)), *map(indices, golden.masks(step)))
        terms = torch_model.pretrain_loss(output, objective.temperature, objective.contrastive_weight)
        model.zero_grad()
        terms["total"].backward()
        return output, terms

    output, terms = backward(0)
    levels = zip(output.video_levels, output.audio_levels)
    logits = [torch_model.contrastive_logits(*pair, objective.temperature) for pair in levels]
    batch = golden.config["batch"]
    quantities = {
        "loss": terms["total"].item(),
        "loss_video": terms["video"].item(),
        "loss_audio": terms["audio"].item(),
        "loss_contrastive": np.array([level.item() for level in terms["contrastive_levels"]]),
        "pred_video": output.video.detach().numpy(),
        "pred_audio": output.audio.detach().numpy(),
        "target_video": output.video_target.numpy(),
        "target_audio": output.audio_target.numpy(),
        "logits": np.stack([x.detach().numpy() for x in logits]) if logits else np.zeros((0, batch, batch)),
        "grad_norms": _gradient_norms(model),
        "grad_norm": np.linalg.norm(_gradient_norms(model)),
    }
    if golden.steps:
        quantities |= _trajectory(golden, model, backward)
    return quantities, names


def _trajectory(golden: Golden, model: torch.nn.Module, backward) -> Quantities:
    train = golden.config["train"]
    groups = {True: [], False: []}
    for name, parameter in model.named_parameters():
        groups[_decays(name, parameter)].append(parameter)
    optimizer = torch.optim.AdamW(
        [
            {"params": groups[True], "weight_decay": train["weight_decay"]},
            {"params": groups[False], "weight_decay": 0.0},
        ],
        betas=tuple(train["betas"]),
        eps=1e-8,
    )
    schedule, losses, norms = _schedule(train), [], []
    for step in range(golden.steps):
        _, terms = backward(step)
        losses.append([terms[name].item() for name in ("total", "video", "audio", "contrastive")])
        norms.append(np.linalg.norm(_gradient_norms(model)))
        for group in optimizer.param_groups:
            group["lr"] = schedule[step]
        optimizer.step()
    return {
        "trajectory": np.array(losses),
        "trajectory_grad_norm": np.array(norms),
        "schedule": schedule,
        "final_param_norms": _norms(model.state_dict()),
    }


def _layer_scale(name: str, depth: int, fusion_depth: int) -> float:
    top = depth + fusion_depth + 1
    layer = top
    if ".patch_embed." in name:
        layer = 0
    elif found := re.match(r"(encoder|encoder_audio|encoder_fusion)\.blocks(?:_audio)?\.(\d+)\.", name):
        layer = 1 + int(found[2]) + (depth if found[1] == "encoder_fusion" else 0)
    return golden_cases.LAYER_DECAY ** (top - layer)


def finetune(golden: Golden) -> tuple[Quantities, list[str]]:
    """Every quantity of a fine-tuning case, and the model's names."""
    config = config_of(golden.model_config())
    model = torch_model.FinetuneModel(config, golden.config["num_classes"]).eval()
    names = _recipe_weights(model)
    video, log_mel = map(torch.from_numpy, golden.clips())
    feature = model.features(video, log_mel)
    logits = model.head(feature)
    labels = torch.from_numpy(golden.labels())
    loss = F.cross_entropy(logits, labels, label_smoothing=golden_cases.LABEL_SMOOTHING)
    loss.backward()
    assert torch.equal(logits, model(video, log_mel))
    return {
        "logits": logits.detach().numpy(),
        "feature": feature.detach().numpy(),
        "loss": loss.item(),
        "grad_norms": _gradient_norms(model),
        "lr_scale": np.array([_layer_scale(n, config.encoder_depth, config.fusion_depth) for n in names]),
        "weight_decay": np.array([_decays(*pair) for pair in model.named_parameters()]),
    }, names
