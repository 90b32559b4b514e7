"""A pre-training run as its configuration file describes it: every setting checked, every open one resolved.

A configuration file is data alone (see `configs/pretrain.py`). Its settings are named and typed by the
dataclasses that the rest of the system takes, so that there is no second list of them to keep in step.
"""

import dataclasses
import functools
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict, config_dict

from data_pipeline.reading.pipeline import PipelineConfig
from hicmae_jax.model import masking, sizes
from hicmae_jax.model.config import ExecutionConfig, MaskConfig, ModelConfig
from hicmae_jax.objective.config import LossConfig
from hicmae_jax.preprocessing.pretrain import PreprocessConfig
from hicmae_jax.settings import schema
from hicmae_jax.settings.sections import CheckpointConfig, EvaluationConfig, FaultsConfig, LogConfig, at_least
from hicmae_jax.training.optimizer import OptimizerConfig

LARGEST_SEED = 2**32 - 1
"""JAX's keys wrap around beyond it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """All that decides a pre-training run; made by `from_config_dict`.

    Attributes:
        size: name of the model's size, before any change to single fields of it.
        unit: what the schedule counts, `epoch` or `step`.
        accumulate: micro-batches to an update, which changes nothing in it but rounding.
        fsdp: devices that share one copy of the state.
        execution: how the model is computed.
        loss: the objective.
        preprocess: augmentation, with the model and the masks.
        optimizer: AdamW or LAMB; one step to its epoch, for that number is the data's to say
            (`optimizer_config`).
        data: what to read and how, with batch and seed.
        checkpoint: when checkpoints are written.
        log: what is written down.
        evaluation: what the model is scored on.
        faults: what is done about what goes wrong.
    """

    size: str
    unit: str
    accumulate: int
    fsdp: int
    execution: ExecutionConfig
    loss: LossConfig
    preprocess: PreprocessConfig
    optimizer: OptimizerConfig
    data: PipelineConfig
    checkpoint: CheckpointConfig
    log: LogConfig
    evaluation: EvaluationConfig
    faults: FaultsConfig

    def __post_init__(self) -> None:
        """Check what the parts must agree on.

        Raises:
            ValueError: naming the settings, their values and what would do.
        """
        at_least(1, accumulate=self.accumulate, fsdp=self.fsdp)
        if self.batch % self.accumulate:
            raise ValueError(f"batch {self.batch} is not a multiple of accumulate {self.accumulate}")
        # Groups lie in one micro-batch. Negatives of the whole batch need not: they are found in two passes.
        group, micro_batch = self.loss.group_size, self.batch // self.accumulate
        if group is not None and micro_batch % group:
            raise ValueError(
                f"loss.negatives = {self.loss.negatives!r}: batch / accumulate, {micro_batch} clips, is not "
                f"a multiple of {group}: change the groups or the batch"
            )

    @property
    def model(self) -> ModelConfig:
        """The model."""
        return self.preprocess.model

    @property
    def masks(self) -> MaskConfig:
        """The masks."""
        return self.preprocess.masks

    @property
    def batch(self) -> int:
        """Clips in an update, over all hosts and micro-batches."""
        return self.data.batch

    @property
    def seed(self) -> int:
        """Of parameters, order of clips, augmentation and masks."""
        return self.data.seed

    def optimizer_config(self, steps_per_epoch: int) -> OptimizerConfig:
        """The optimiser and its schedule on data of known size.

        Args:
            steps_per_epoch: whole batches in the data.

        Raises:
            ValueError: no whole batch.
        """
        if self.unit == "step":
            return self.optimizer
        return dataclasses.replace(self.optimizer, steps_per_epoch=steps_per_epoch)

    def total_steps(self, steps_per_epoch: int) -> int:
        """Updates in the whole run, on data of as many whole batches."""
        optimizer = self.optimizer_config(steps_per_epoch)
        return optimizer.epochs * optimizer.steps_per_epoch

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON can hold it, in the configuration file's shape.

        `from_config_dict` makes an equal `RunConfig` of it. Nothing is left open: widths, threads and dtype
        are those of the run.
        """
        by_examples = self.optimizer.warmup_examples
        schedule = (self.optimizer.epochs, self.optimizer.warmup_epochs if by_examples is None else None)
        by_epoch, by_step = (schedule, (None, None)) if self.unit == "epoch" else ((None, None), schedule)
        tree: dict[str, Any] = {
            "size": self.size,
            "seed": self.seed,
            "batch": self.batch,
            "epochs": by_epoch[0],
            "warmup_epochs": by_epoch[1],
            "steps": by_step[0],
            "warmup_steps": by_step[1],
            "warmup_examples": by_examples,
            "accumulate": self.accumulate,
            "fsdp": self.fsdp,
        }
        for section, (_, elsewhere) in _SECTIONS.items():
            fields = dataclasses.asdict(getattr(self, section))
            tree[section] = {
                _RENAMED.get(name, name): list(value) if isinstance(value, tuple) else value
                for name, value in fields.items()
                if name not in elsewhere
            }
        return tree

    def as_text(self) -> str:
        """The same as aligned lines, one a setting."""
        lines = schema.flatten(self.to_dict())
        width = max(map(len, lines))
        return "\n".join(f"{key:{width}}  {_shown(value)}" for key, value in lines.items())


# Section of the file: what it makes, and those of its fields that are settled elsewhere in the file.
_SECTIONS: dict[str, tuple[type, tuple[str, ...]]] = {
    "model": (ModelConfig, ()),
    "execution": (ExecutionConfig, ()),
    "masks": (MaskConfig, ()),
    "loss": (LossConfig, ()),
    "preprocess": (PreprocessConfig, ("model", "masks")),
    # Layer-wise rates are for fine-tuning.
    "optimizer": (
        OptimizerConfig,
        ("batch", "epochs", "warmup_epochs", "warmup_examples", "steps_per_epoch", "layer_decay"),
    ),
    "data": (PipelineConfig, ("batch", "seed", "frames")),
    "checkpoint": (CheckpointConfig, ()),
    "log": (LogConfig, ()),
    "evaluation": (EvaluationConfig, ()),
    "faults": (FaultsConfig, ()),
}
# Field: its name in the file, where `data.data` would be odd, and a field cannot be called as a method is.
_RENAMED = {"data": "sets", "shape": "schedule"}
# None in the file: as the size says, or as many as there are cores.
_OPEN = (
    *("model.encoder_dim", "model.encoder_heads", "model.encoder_depth"),
    *("model.decoder_dim", "model.decoder_heads", "model.skip_layers", "data.threads"),
)


@functools.cache
def settings() -> Mapping[str, Any]:
    """Dotted name of every setting of a configuration file, with its type."""
    whole, maybe_whole = int, int | None
    found: dict[str, Any] = {
        "size": str,
        "seed": whole,
        "batch": whole,
        "epochs": maybe_whole,
        "warmup_epochs": maybe_whole,
        "steps": maybe_whole,
        "warmup_steps": maybe_whole,
        "warmup_examples": maybe_whole,
        "accumulate": whole,
        "fsdp": whole,
    }
    for section, (kind, elsewhere) in _SECTIONS.items():
        for name, hint in typing.get_type_hints(kind).items():
            if name not in elsewhere:
                key = f"{section}.{_RENAMED.get(name, name)}"
                found[key] = hint | None if key in _OPEN else hint
    return types.MappingProxyType(found)


def from_config_dict(config: ConfigDict | Mapping[str, Any], platform: str) -> RunConfig:
    """Check a configuration and resolve what it leaves open.

    Args:
        config: what `get_config` of a configuration file gave, or `RunConfig.to_dict`.
        platform: JAX's name of the devices (`cpu`, `gpu`, `tpu`), for a dtype or attention of `auto`.

    Raises:
        ValueError: one line with the dotted name of the setting, its value and what would do.
    """
    try:
        tree = config.to_dict() if isinstance(config, ConfigDict) else config
    except config_dict.RequiredValueError:
        raise ValueError("the configuration leaves a required_placeholder without a value") from None
    values = schema.check(schema.flatten(tree), settings())
    _check_numbers(values)
    if values["execution.dtype"] == "auto":
        values["execution.dtype"] = "float32" if platform == "cpu" else "bfloat16"
    if values["execution.attention"] == "auto":
        values["execution.attention"] = "pallas" if platform == "tpu" else "xla"
    elif values["execution.attention"] == "pallas" and platform != "tpu":
        raise ValueError(
            f"execution.attention = 'pallas' is a kernel for TPUs, which {platform} would interpret: say "
            "auto or xla"
        )
    unit, length, warmup, warmup_examples = _schedule(values)

    def make(section: str, kind: Callable[..., Any], **others: Any) -> Any:
        names = {_RENAMED.get(name, name): name for name in typing.get_type_hints(_SECTIONS[section][0])}
        fields = {
            names[key.partition(".")[2]]: value
            for key, value in values.items()
            if key.startswith(f"{section}.") and not (value is None and key in _OPEN)
        }
        try:
            return kind(**fields, **others)
        except ValueError as error:
            raise ValueError(_with_dotted_name(section, str(error))) from None

    model = make("model", functools.partial(sizes.model_config, values["size"]))
    masks = make("masks", MaskConfig)
    _check_masks(masks, model)
    return RunConfig(
        size=values["size"],
        unit=unit,
        accumulate=values["accumulate"],
        fsdp=values["fsdp"],
        execution=make("execution", ExecutionConfig),
        loss=make("loss", LossConfig),
        preprocess=make("preprocess", PreprocessConfig, model=model, masks=masks),
        optimizer=make(
            "optimizer",
            OptimizerConfig,
            batch=values["batch"],
            epochs=length,
            warmup_epochs=warmup,
            warmup_examples=warmup_examples,
            steps_per_epoch=1,
        ),
        data=make("data", PipelineConfig, batch=values["batch"], seed=values["seed"], frames=model.frames),
        checkpoint=make("checkpoint", CheckpointConfig),
        log=make("log", LogConfig),
        evaluation=make("evaluation", EvaluationConfig),
        faults=make("faults", FaultsConfig),
    )


def _check_numbers(values: Mapping[str, Any]) -> None:
    """What no section's dataclass checks."""
    if values["size"] not in sizes.SIZES:
        raise ValueError(f"size = {values['size']!r}: choose one of {', '.join(sizes.SIZES)}")
    if not 0 <= values["seed"] <= LARGEST_SEED:
        raise ValueError(f"seed {values['seed']} is not in 0 … {LARGEST_SEED}")
    at_least(1, batch=values["batch"])
    if not values["data.sets"]:
        raise ValueError("data.sets is empty: name the directories of prepared sets to train on")
    if len(set(values["data.sets"])) < len(values["data.sets"]):
        raise ValueError(f"data.sets {values['data.sets']} names a set twice: say its share by data.weights")


def _schedule(values: Mapping[str, Any]) -> tuple[str, int, int, int | None]:
    """What the schedule counts, how many in all, how many to warm up, and in place of that how many clips."""
    given = {name: values[name] for name in ("epochs", "warmup_epochs", "steps", "warmup_steps")}
    if (given["epochs"] is None) == (given["steps"] is None):
        both = "both given" if given["steps"] is not None else "both none"
        raise ValueError(
            f"epochs {given['epochs']} and steps {given['steps']} are {both}: give one of them, with its "
            "warm-up, and none for the other two"
        )
    unit = "epoch" if given["steps"] is None else "step"
    other = "steps" if unit == "epoch" else "epochs"
    length, warmup, examples = given[f"{unit}s"], given[f"warmup_{unit}s"], values["warmup_examples"]
    at_least(1, **{f"{unit}s": length})
    if examples is not None:
        at_least(0, warmup_examples=examples)
        for name in ("warmup_epochs", "warmup_steps"):
            if given[name] is not None:
                raise ValueError(
                    f"warmup_examples {examples} and {name} {given[name]} are both given: one must be none"
                )
        if unit == "step" and examples > (length - 1) * values["batch"]:
            raise ValueError(
                f"warmup_examples {examples} is not in 0 … {(length - 1) * values['batch']}, short of steps "
                f"{length} of batch {values['batch']}"
            )
        return unit, length, 0, examples
    if warmup is None or given[f"warmup_{other}"] is not None:
        raise ValueError(f"{unit}s {length} goes with warmup_{unit}s, and with warmup_{other} none")
    if not 0 <= warmup < length:
        raise ValueError(f"warmup_{unit}s {warmup} is not in 0 … {length - 1}, short of {unit}s {length}")
    return unit, length, warmup, None


def _check_masks(masks: MaskConfig, model: ModelConfig) -> None:
    """Name the modality whose ratio does not fit, which the masks' own sizes do not."""
    for modality, grid in (("video", model.video_grid), ("audio", model.audio_grid)):
        kind, ratio, decoded = (
            getattr(masks, f"{modality}_{name}") for name in ("kind", "ratio", "decode_fraction")
        )
        try:
            masking.mask_sizes(kind, grid, ratio, decoded)
        except ValueError as error:
            what = "decode_fraction" if "decode" in str(error) else "ratio"
            raise ValueError(f"masks.{modality}_{what}: {error}") from None


def _with_dotted_name(section: str, message: str) -> str:
    """A dataclass's message, which begins with a field, with that field's name in the file."""
    field = re.match(r"\w*", message)[0]
    named = [key for key in settings() if key.rpartition(".")[2] == field]
    key = next((key for key in named if key.startswith(f"{section}.")), named[0] if named else None)
    return f"{section}: {message}" if key is None else key + message[len(field) :]


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value in (None, "") else str(value)
