"""`load` and `save`: parameters and model configuration, from and to every form that this project knows."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from etils import epath

from hicmae_jax.model.config import FinetuneConfig, MaskConfig, ModelConfig
from hicmae_jax.model.shapes import abstract_parameters
from hicmae_jax.weights import files, torch_names
from hicmae_jax.weights.infer import infer_config
from hicmae_jax.weights.trained import load_trained


class Weights(NamedTuple):
    """The parameters of a pre-training model, and what model it is.

    Attributes:
        params: tree of float32 NumPy arrays, one array for each layer.
        config: configuration of the model: `HiCMAE(config).apply({"params": params}, *inputs)`.
    """

    params: Any
    config: ModelConfig


class FinetunedWeights(NamedTuple):
    """The parameters of a fine-tuned model, and what model it is.

    Attributes:
        params: tree of float32 NumPy arrays, one array for each layer.
        config: configuration of the model.
        finetune: of its head: `HiCMAEFinetune(config, finetune).apply({"params": params}, video, log_mel)`.
        labels: names of the classes, or of the dimensions of a regression, in order.
    """

    params: Any
    config: ModelConfig
    finetune: FinetuneConfig
    labels: tuple[str, ...]


def load(source: epath.PathLike, step: int | None = None, **fields: Any) -> Weights | FinetunedWeights:
    """Load a model from a run, a checkpoint, a folder that `hicmae export` has written, or a weight file.

    Args:
        source: the directory of a run, its `checkpoints`, one checkpoint in it, a folder of exported weights,
            or a `.safetensors`, `.pth` or `.pt` file of the published names.
        step: step of the run's checkpoint; None for the last.
        **fields: fields of `ModelConfig` for a file that does not hold its configuration, see `infer_config`.

    Returns:
        Parameters and configuration of a pre-training model; of a fine-tuned one also its head and labels.
        Stacked layers of a run are split.

    Raises:
        FileNotFoundError: there is no such file, run or checkpoint.
        ImportError: a `.pth` without PyTorch installed.
        ValueError: damaged content, a file of a fine-tuned model, or an argument that does not fit.
    """
    path = epath.Path(source)
    if path.suffix in files.PTH + files.SAFETENSORS:
        if step is not None:
            raise ValueError(f"{path} is a file, which has no steps: leave out step={step}")
        return _load_file(path, fields)
    if fields:
        raise ValueError(f"{path}: a run records its own configuration: leave out {', '.join(fields)}")
    found = load_trained(path, step)
    if found.finetune is None:
        return Weights(found.params, found.model)
    return FinetunedWeights(found.params, found.model, found.finetune, found.labels)


def save(params: Mapping[str, Any], config: ModelConfig, path: epath.PathLike) -> None:
    """Save a pre-training model under the published names, with its configuration, for `load` and PyTorch.

    Args:
        params: parameters of the model.
        config: configuration of the model.
        path: a new file that ends in `.safetensors`, `.pth` or `.pt`.

    Raises:
        FileExistsError: the file exists.
        ImportError: a `.pth` without PyTorch installed.
        ValueError: another ending.
    """
    files.write(path, torch_names.state_dict(params, config.patch), dataclasses.asdict(config))


def _load_file(path: epath.Path, fields: Mapping[str, Any]) -> Weights:
    state, recorded = files.read_with_config(path)
    if {"fc_norm.weight", "head.weight"} <= set(state):
        raise ValueError(
            f"{path}: these are weights of a fine-tuning model, whose labels no file has: load its folder or "
            "its run; --config.initial.weights takes its encoders"
        )
    try:
        if recorded is not None:
            if fields:
                raise ValueError(f"the file holds its own configuration: leave out {', '.join(fields)}")
            config = ModelConfig(**recorded)
        else:
            config = infer_config({name: value.shape for name, value in state.items()}, **fields)
        files.check_numbers(state)
        template = abstract_parameters(config, MaskConfig())
        return Weights(torch_names.parameters(state, template, config.patch), config)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
