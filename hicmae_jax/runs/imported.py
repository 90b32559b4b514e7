"""Makes a run of weights that another program has trained, such as a published checkpoint.

The run stands at step 0: it can be evaluated, its weights can begin a fine-tuning run, and it can be trained
on. The optimiser begins anew, with the schedule of the settings, because a checkpoint of another program does
not say which batches it has seen.

    <directory>/imported.json    where the weights come from, and what else the file holds
    <directory>/checkpoints/0    see `checkpoints.manager`; its record names no data
"""

import argparse
import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from etils import epath
from ml_collections import ConfigDict

from data_pipeline.corpora import protocols
from hicmae_jax.checkpoints.manager import Checkpoints
from hicmae_jax.logs.events import Events
from hicmae_jax.logs.versions import versions
from hicmae_jax.model import shapes as model_shapes
from hicmae_jax.model.config import ModelConfig
from hicmae_jax.model.initialise import finetune_initialiser
from hicmae_jax.model.sizes import SIZES, model_config
from hicmae_jax.runs import resuming
from hicmae_jax.runs.directory import check_directory, write_json
from hicmae_jax.runs.in_use import Hold
from hicmae_jax.runs.session import CONFIG, VERSIONS
from hicmae_jax.settings import finetune, pretrain
from hicmae_jax.settings.run_settings import RunSettings
from hicmae_jax.settings.schema import flatten
from hicmae_jax.training import optimizer as optim
from hicmae_jax.training.state import TrainState
from hicmae_jax.weights import files, torch_names
from hicmae_jax.weights.infer import infer_encoder_config
from hicmae_jax.weights.trained import IMPORTED

UNKNOWN = ("unknown",)
"""Stands for the data sets in the settings of such a run: a run needs one, and nobody has said which."""


class _Model(NamedTuple):
    """The settings of the run, and the shapes of its parameters."""

    settings: RunSettings
    parameters: Mapping[str, Any]
    about: str


def import_weights(
    weights: epath.PathLike, config: ConfigDict, directory: epath.PathLike, platform: str = "cpu"
) -> list[str]:
    """Make a run of the weights in a file.

    Args:
        weights: a `.pth`, `.pt` or `.safetensors` file of the published names. Of a training checkpoint, only
            the weights are taken; half precision becomes float32.
        config: settings from a recipe of pre-training, or of fine-tuning for weights with a head.
        directory: directory of the run: new, or empty.
        platform: of the devices, as `chips.platform` names it.

    Returns:
        Lines that say what was read and written.

    Raises:
        FileNotFoundError: no such file.
        FileExistsError: there is something in the directory.
        ImportError: a `.pth` without PyTorch installed.
        ValueError: the file is damaged or would run code, its weights do not fit the settings, or are not
            finite numbers.
        OSError: the run cannot be written.
    """
    path, root = epath.Path(weights), epath.Path(directory)
    check_directory(root)
    if root.exists() and any(root.iterdir()):
        raise FileExistsError(f"{root} is not empty: give another directory")
    content = files.read_content(path)
    try:
        files.check_numbers(content.state)
        model = _model_of(content, config, platform)
        params = torch_names.parameters(content.state, model.parameters, model.settings.model.patch)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    about = {"source": str(path), "sha256": digest, "beside": _described(content.beside)}
    _write(root, model.settings, params, about)
    return [
        f"read      {path}: {len(content.state)} tensors, {model.about}",
        f"sha256    {digest}",
        f"left out  {', '.join(content.beside) or 'nothing'}",
        f"wrote     {root}: step 0, with a new optimiser",
        "note      check the upstream terms before you use or share these weights",
    ]


def _model_of(content: files.Content, config: ConfigDict, platform: str) -> _Model:
    """Settings and shapes for the weights of a file.

    Raises:
        ValueError: the weights are of another kind or size than the settings.
    """
    shapes = {name: tuple(value.shape) for name, value in content.state.items()}
    has_head, tunes = "head.weight" in shapes, "data.protocol" in flatten(config.to_dict())
    if has_head != tunes:
        kinds = ("a pre-training model", "a fine-tuned model")
        wanted = "finetune:<protocol>" if has_head else "pretrain:<size>"
        raise ValueError(f"holds {kinds[has_head]}: give a recipe such as --config={wanted}")
    if not config.data.sets:
        with config.unlocked():
            config.data.sets = UNKNOWN
    return (_finetuned if has_head else _pretrained)(content, shapes, config, platform)


def _pretrained(
    content: files.Content, shapes: Mapping[str, Any], config: ConfigDict, platform: str
) -> _Model:
    settings = pretrain.from_config_dict(config, platform)
    if content.config is not None:
        settings = settings.changed({f"model.{name}": value for name, value in _fields(content).items()})
    parameters = model_shapes.abstract_parameters(settings.model, settings.masks, settings.execution)
    _check_size(shapes, parameters, settings)
    return _Model(settings, parameters, f"pre-training, {_size_of(settings.model)}")


def _finetuned(
    content: files.Content, shapes: Mapping[str, Any], config: ConfigDict, platform: str
) -> _Model:
    known = infer_encoder_config(shapes) if content.config is None else ModelConfig(**_fields(content))
    settings = finetune.from_config_dict(config, platform, known)
    protocol = protocols.protocol(settings.data.protocol)
    outputs = shapes["head.weight"][0]
    if outputs != protocol.n_outputs:
        raise ValueError(
            f"its head has {outputs} outputs, {protocol.name} has {protocol.n_outputs}: give the recipe of "
            "the protocol that it was trained for; launch.protocols lists them"
        )
    initialise = finetune_initialiser(settings.model, settings.for_outputs(outputs), settings.execution)
    parameters = jax.eval_shape(initialise, jax.random.key(0))
    about = f"fine-tuned for {protocol.name}, fold {settings.data.fold}, {_size_of(settings.model)}"
    return _Model(settings, parameters, about)


def _fields(content: files.Content) -> dict[str, Any]:
    """The configuration that this project has written into the file, checked."""
    try:
        return dataclasses.asdict(ModelConfig(**(content.config or {})))
    except TypeError as error:
        raise ValueError(f"its configuration is of another version ({error})") from None


def _check_size(
    shapes: Mapping[str, Any], parameters: Mapping[str, Any], settings: pretrain.PretrainSettings
) -> None:
    """Name the size of the weights, if it is another one than that of the settings."""
    model = settings.model
    if shapes == torch_names.shapes(parameters, model.patch):
        return
    for name in SIZES:
        other = model_shapes.abstract_parameters(model_config(name, patch=model.patch), settings.masks)
        if shapes == torch_names.shapes(other, model.patch):
            raise ValueError(
                f"its weights are of size {name}, the settings of {_size_of(model)}: give "
                f"--config=pretrain:{name}"
            )


def _size_of(model: ModelConfig) -> str:
    """Name of the size with these widths; or the widths."""
    for name, (width, _, depth, decoder, _) in SIZES.items():
        if (width, depth, decoder) == (model.encoder_dim, model.encoder_depth, model.decoder_dim):
            return f"size {name}"
    return f"{model.encoder_depth} layers of width {model.encoder_dim}"


def _write(root: epath.Path, settings: RunSettings, params: Any, about: Mapping[str, Any]) -> None:
    """Write the run, with the state of step 0."""
    params = jax.tree.map(jnp.asarray, params)
    optimizer = optim.make_optimizer(settings.optimizer_config(steps_per_epoch=1), params)
    counts = dict.fromkeys(("step", "replaced", "skipped", "skipped_in_row"), jnp.int32(0))
    state = TrainState(params=params, opt_state=jax.jit(optimizer.init)(params), **counts)
    record = {
        "config": settings.to_dict(),
        "versions": versions(),
        "data": {},
        resuming.IMPORTED: about["sha256"],
    }
    root.mkdir(parents=True, exist_ok=True)
    with Hold(root), Checkpoints(root) as checkpoints:
        write_json(root / IMPORTED, about)
        checkpoints.save(0, state, record)
        checkpoints.wait()
        write_json(root / CONFIG, record["config"])
        write_json(root / VERSIONS, record["versions"])
        Events(root).write("imported", source=about["source"], sha256=about["sha256"])


def _described(beside: Mapping[str, Any]) -> dict[str, Any]:
    """What a training checkpoint holds beside its weights, as JSON; the optimiser is only named."""
    kept: dict[str, Any] = {}
    for name, value in beside.items():
        if isinstance(value, argparse.Namespace):
            kept[str(name)] = json.loads(json.dumps(vars(value), default=repr))
        elif isinstance(value, int | float | str | bool | None):
            kept[str(name)] = value
        else:
            kept[str(name)] = f"a {type(value).__name__}, not read"
    return kept
