"""`config.json` of a folder of exported weights: the model's configuration as Hugging Face writes it."""

import dataclasses
import json
from typing import Any, NamedTuple

from etils import epath

from hicmae_jax.model.config import FinetuneConfig, ModelConfig

CONFIG, WEIGHTS = "config.json", "model.safetensors"
MODEL_TYPE = "hicmae"
KINDS = ("pretraining", "finetuned")


class FolderConfig(NamedTuple):
    """What `config.json` says.

    Attributes:
        model: configuration of the model.
        finetune: configuration of the head; None for a pre-training model.
        labels: names of the classes or of the dimensions, in order; () for pre-training.
        regression: whether the outputs are numbers and not classes.
        stride: frames from one frame of a clip to the next.
        step: step of the run's checkpoint; None if it is not known.
        frame_difference: whether video targets are differences of frames, for pre-training.
    """

    model: ModelConfig
    finetune: FinetuneConfig | None
    labels: tuple[str, ...]
    regression: bool
    stride: int
    step: int | None
    frame_difference: bool = True


def placeholders(outputs: int) -> tuple[str, ...]:
    """Names of outputs whose names are not known, as Hugging Face gives them."""
    return tuple(f"LABEL_{number}" for number in range(outputs))


def is_folder(path: epath.Path) -> bool:
    """Whether a directory is a folder of exported weights; the directory of a run has a `config.json` too."""
    return (path / WEIGHTS).exists() and (path / CONFIG).exists()


def to_json(config: FolderConfig) -> dict[str, Any]:
    """What `config.json` has to say, of values that JSON can hold."""
    written = {
        "model_type": MODEL_TYPE,
        "architectures": ["HiCMAEModel"],
        "auto_map": {
            "AutoConfig": "configuration_hicmae.HiCMAEConfig",
            "AutoModel": "modeling_hicmae.HiCMAEModel",
        },
        "dtype": "float32",
        "kind": KINDS[config.finetune is not None],
        **dataclasses.asdict(config.model),
        "stride": config.stride,
        "step": config.step,
        "frame_difference": config.frame_difference,
    }
    if config.finetune is not None:
        written |= {
            "modality": config.finetune.modality,
            "feature_fusion": config.finetune.feature_fusion,
            "drop_path": config.finetune.drop_path,
            "regression": config.regression,
            "id2label": {str(number): label for number, label in enumerate(config.labels)},
            "label2id": {label: number for number, label in enumerate(config.labels)},
        }
    return json.loads(json.dumps(written))


def read(folder: epath.Path) -> FolderConfig:
    """Read `config.json` of a folder.

    Raises:
        ValueError: it is damaged, or of another kind of model.
    """
    path = folder / CONFIG
    try:
        return from_json(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{path}: {reason}; export the folder again") from None


def from_json(written: dict[str, Any]) -> FolderConfig:
    """The inverse of `to_json`.

    Raises:
        KeyError: a key is missing.
        ValueError: the values are not those of a HiCMAE model.
    """
    if written.get("model_type") != MODEL_TYPE or written.get("kind") not in KINDS:
        raise ValueError(f"model_type is not {MODEL_TYPE}, or kind not one of {', '.join(KINDS)}")
    model = ModelConfig(**{field.name: written[field.name] for field in dataclasses.fields(ModelConfig)})
    rest = (written["stride"], written.get("step"), written.get("frame_difference", True))
    if written["kind"] == KINDS[0]:
        return FolderConfig(model, None, (), False, *rest)
    names = written["id2label"]
    labels = tuple(names[str(number)] for number in range(len(names)))
    finetune = FinetuneConfig(
        outputs=len(labels), **{name: written[name] for name in ("modality", "feature_fusion", "drop_path")}
    )
    return FolderConfig(model, finetune, labels, written["regression"], *rest)
