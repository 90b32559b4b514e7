"""The encoders and the fusion encoder of any trained model, for a fine-tuning run to begin with."""

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from hicmae_jax.checkpoints import reader
from hicmae_jax.checkpoints.best import BEST
from hicmae_jax.checkpoints.load import find_step, load_parameters
from hicmae_jax.model.config import ModelConfig
from hicmae_jax.settings import recorded
from hicmae_jax.weights import files, torch_names
from hicmae_jax.weights.infer import infer_encoder_config


class Encoders(NamedTuple):
    """Weights of encoders and fusion encoder, and of what else the model had.

    Attributes:
        state: PyTorch name → float array.
        config: configuration of the model.
        origin: one line that says which weights these are.
        step: step of the checkpoint; None for a file.
        tuned: settings by dotted name of the fine-tuning run that has made them; empty for other weights.
    """

    state: Mapping[str, np.ndarray]
    config: ModelConfig
    origin: str
    step: int | None = None
    tuned: Mapping[str, Any] = MappingProxyType({})


def load_encoders(source: epath.PathLike, step: int | None = None, best: bool = False) -> Encoders:
    """Load the weights of a pre-training or fine-tuning model.

    Args:
        source: the directory of a run, its `checkpoints`, one checkpoint in it, or a `.safetensors`, `.pth`
            or `.pt` file of the published names.
        step: step of the run's checkpoint; None for the last.
        best: take the checkpoint with the best score instead.

    Raises:
        FileNotFoundError: there is no such file, run or checkpoint.
        ImportError: a `.pth` without PyTorch installed.
        ValueError: damaged content, or an argument that does not fit the source.
    """
    path = epath.Path(source)
    if path.suffix not in files.PTH + files.SAFETENSORS:
        return _of_run(path, BEST if best else step)
    if step is not None or best:
        raise ValueError(f"{path} is a file, which has no steps: leave out the step")
    state, config = files.read_with_config(path)
    try:
        model = (
            infer_encoder_config({name: value.shape for name, value in state.items()})
            if config is None
            else ModelConfig(**config)
        )
        taken = {name: value for name, value in state.items() if name.split(".")[0] in torch_names.SHARED}
        files.check_numbers(taken)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Encoders(_as_float32(state), model, f"{path}, SHA-256 {digest[:16]}…")


def fill(encoders: Encoders, params: Mapping[str, Any], model: ModelConfig) -> torch_names.Filled:
    """Fill a fine-tuning model from other weights; the head and the layer weights stay as they are.

    Args:
        encoders: from `load_encoders`.
        params: initial parameters of the fine-tuning model, arrays; encoders stacked or not.
        model: its configuration.

    Raises:
        ValueError: the weights lack a modality, or lists the names that are missing, extra or of the wrong
            shape.
    """
    held = {name.split(".")[0] for name in encoders.state}
    if lacking := [name for name in torch_names.SHARED if name in params and name not in held]:
        raise ValueError(
            f"{encoders.origin}: these weights have no {', '.join(lacking)}: choose their finetune.modality, "
            "or other weights"
        )
    try:
        return torch_names.fill_finetune(encoders.state, params, model.patch)
    except ValueError as error:
        raise ValueError(f"{encoders.origin}: {error}") from None


def _of_run(path: epath.Path, step: int | str | None) -> Encoders:
    if (path / reader.RECORD).exists() and step is None:  # one checkpoint, named by its step
        path, step = path.parent, int(path.name)
    found = find_step(path, step)
    params, record = load_parameters(path, found)
    values = recorded.completed(record["config"])
    model = recorded.model_of(values)
    if any("blocks" in params.get(name, ()) for name in ("encoder", "encoder_audio")):
        params = torch_names.unstack_layers(params)
    tuned = values if recorded.is_of_finetuning(values) else {}
    state = torch_names.state_dict(params, model.patch)
    return Encoders(state, model, f"{path}, step {found:,}", found, tuned)


def _as_float32(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.asarray(value, np.float32) for name, value in state.items()}
