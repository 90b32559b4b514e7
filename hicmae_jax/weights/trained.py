"""A trained model of either kind, from every place where this project keeps one."""

import hashlib
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath

from data_pipeline.corpora import protocols
from hicmae_jax.checkpoints import reader
from hicmae_jax.checkpoints.best import BEST
from hicmae_jax.checkpoints.load import find_step, load_parameters
from hicmae_jax.model.config import FinetuneConfig, MaskConfig, ModelConfig
from hicmae_jax.model.initialise import finetune_initialiser
from hicmae_jax.model.shapes import abstract_parameters
from hicmae_jax.settings import recorded
from hicmae_jax.weights import files, folder_config, torch_names
from hicmae_jax.weights.infer import infer_config, infer_encoder_config

IMPORTED = "imported.json"
"""Where the weights come from, in the directory of a run that was made of the weights of another program."""
SCORES = "scores.json"
"""Scores of the test clips, in the directory of a finished fold."""
STRIDE = 4
"""Frames from one frame of a clip to the next, where nothing is recorded (the published recipe)."""


class Trained(NamedTuple):
    """A trained model, and what is known about it.

    Attributes:
        params: tree of float32 NumPy arrays, one array for each layer.
        model: configuration of the model.
        finetune: configuration of the head; None for a pre-training model.
        labels: names of the classes, or of the dimensions of a regression, in order; () for pre-training.
        regression: whether the outputs are numbers and not classes.
        stride: frames from one frame of a clip to the next, at 25 frames a second.
        origin: one line that says which weights these are.
        step: step of the checkpoint; None if it is not known.
        values: settings of the run by dotted name; empty for a file and a folder.
        versions: versions of the software that trained it; empty for a file and a folder.
        data: directory → fingerprint of each set that it was trained on; likewise.
        scores: what `scores.json` of a finished fold says; empty without one.
        imported: SHA-256 of the file of another program with whose weights the run began; "" for none.
    """

    params: Any
    model: ModelConfig
    finetune: FinetuneConfig | None
    labels: tuple[str, ...]
    regression: bool
    stride: int
    origin: str
    step: int | None = None
    values: Mapping[str, Any] = MappingProxyType({})
    versions: Mapping[str, Any] = MappingProxyType({})
    data: Mapping[str, str] = MappingProxyType({})
    scores: Mapping[str, Any] = MappingProxyType({})

    imported: str = ""

    @property
    def is_import(self) -> bool:
        """Whether the weights are those of another program, which this project has not trained."""
        return bool(self.imported) and self.step == 0

    @property
    def frames(self) -> int:
        """Frames in a clip."""
        return self.model.frames


def load_trained(source: epath.PathLike, step: int | None = None, best: bool = False) -> Trained:
    """Load a pre-training or a fine-tuned model.

    A file of a fine-tuned model alone tells neither the names of its classes nor whether it is a regression:
    it counts as one of classes, which are called LABEL_0, LABEL_1, …

    Args:
        source: the directory of a run (of a fold), its `checkpoints`, one checkpoint in it, a folder that
            `launch.export` has written, or a `.safetensors`, `.pth` or `.pt` file of the published names.
        step: step of the run's checkpoint; None for the last.
        best: take the run's checkpoint with the best score instead.

    Returns:
        The model. Stacked layers of a run are split.

    Raises:
        FileNotFoundError: there is no such file, run or checkpoint.
        ImportError: a `.pth` without PyTorch installed.
        ValueError: damaged content, or an argument that does not fit the source.
    """
    path = epath.Path(source)
    if step is not None and best:
        raise ValueError(f"step {step} and the best checkpoint are both asked for: leave one out")
    is_file, is_folder = path.suffix in files.PTH + files.SAFETENSORS, folder_config.is_folder(path)
    if (is_file or is_folder) and (step is not None or best):
        what = "file" if is_file else "folder of exported weights"
        raise ValueError(f"{path} is a {what}, which has one step: leave step and best out")
    if is_folder:
        return _of_folder(path)
    if not is_file and path.exists() and not path.is_dir():
        endings = ", ".join(files.SAFETENSORS + files.PTH)
        raise ValueError(
            f"{path} is no model: name a run, an exported folder or a file that ends in {endings}"
        )
    return _of_file(path) if is_file else _of_run(path, BEST if best else step)


def _of_run(path: epath.Path, step: int | str | None) -> Trained:
    if (path / reader.RECORD).exists():  # one checkpoint, named by its step
        if step is not None:
            raise ValueError(f"{path} is one checkpoint: leave step and best out, or name the run")
        path, step = path.parent, int(path.name)
    found = find_step(path, step)
    params, record = load_parameters(path, found)
    if any("blocks" in params.get(name, ()) for name in ("encoder", "encoder_audio")):
        params = torch_names.unstack_layers(params)
    values = recorded.completed(record["config"])
    run = path.parent if path.name == reader.DIRECTORY else path
    about: dict[str, Any] = {"labels": (), "regression": False, "stride": values.get("data.stride") or STRIDE}
    finetune = None
    if recorded.is_of_finetuning(values):
        about |= _of_protocol(values, params, run)
        finetune = FinetuneConfig(
            outputs=len(about["labels"]),
            modality=values["finetune.modality"],
            feature_fusion=values["finetune.feature_fusion"],
            drop_path=values["finetune.drop_path"] if values["tuning.mode"] == "full" else 0.0,
        )
    return Trained(
        params,
        recorded.model_of(values),
        finetune,
        origin=f"{path}, step {found:,}",
        step=found,
        values=values,
        versions=record.get("versions", {}),
        data=record.get("data", {}),
        scores=_read_json(run / SCORES, "score the fold again"),
        imported=_read_json(run / IMPORTED, "import the weights again").get("sha256", ""),
        **about,
    )


def _of_protocol(values: Mapping[str, Any], params: Mapping[str, Any], run: epath.Path) -> dict[str, Any]:
    """Names of the outputs, regression and stride of a fine-tuning run."""
    protocol = protocols.protocol(values["data.protocol"])
    outputs = params["head"]["bias"].size
    # Where only the data tell the classes, the scores of the fold have their names.
    labels = protocol.outputs or tuple(
        _read_json(run / SCORES, "score the fold again").get("outputs", folder_config.placeholders(outputs))
    )
    if len(labels) != outputs:
        raise ValueError(
            f"{run}: the head has {outputs} outputs, but {protocol.name} has {len(labels)}: the checkpoint "
            "is of another version of the protocol"
        )
    stride = values["data.stride"] or protocol.stride
    return {"labels": labels, "regression": protocol.regression, "stride": stride}


def _read_json(path: epath.Path, remedy: str) -> dict[str, Any]:
    """A file of a run; empty if there is none."""
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): delete it and {remedy}") from None


def _of_folder(path: epath.Path) -> Trained:
    about = folder_config.read(path)
    state = files.read(path / folder_config.WEIGHTS)
    try:
        params = _parameters(state, about.model, about.finetune)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    origin = str(path) if about.step is None else f"{path}, of step {about.step:,}"
    return Trained(params, *about[:5], origin=origin, step=about.step)


def _of_file(path: epath.Path) -> Trained:
    state, config = files.read_with_config(path)
    shapes = {name: value.shape for name, value in state.items()}
    try:
        finetune = _infer_finetune(shapes)
        infer = infer_config if finetune is None else infer_encoder_config
        model = infer(shapes) if config is None else ModelConfig(**config)
        params = _parameters(state, model, finetune)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
    labels = folder_config.placeholders(finetune.outputs) if finetune else ()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Trained(params, model, finetune, labels, False, STRIDE, f"{path}, SHA-256 {digest[:16]}…")


def _infer_finetune(shapes: Mapping[str, tuple[int, ...]]) -> FinetuneConfig | None:
    """What the names of a fine-tuned model tell of it; None for a pre-training model."""
    if not {"fc_norm.weight", "head.weight"} <= set(shapes):
        return None
    held = {name.split(".")[0] for name in shapes}
    modality = "audio-visual" if {"encoder", "encoder_audio"} <= held else "video"
    if "encoder" not in held:
        modality = "audio"
    fused = any(name.endswith("_layer_weights") for name in held)
    return FinetuneConfig(outputs=shapes["head.weight"][0], modality=modality, feature_fusion=fused)


def _parameters(state: Mapping[str, np.ndarray], model: ModelConfig, finetune: FinetuneConfig | None) -> Any:
    """The tree of a state dict, checked."""
    files.check_numbers(state)
    if finetune is None:
        template = abstract_parameters(model, MaskConfig())
    else:
        template = jax.eval_shape(finetune_initialiser(model, finetune), jax.random.key(0))
    return torch_names.parameters(state, template, model.patch)
