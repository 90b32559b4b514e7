"""The settings of a pre-training run: checked, and with every open choice made.

A recipe contains only data (see `configs/pretrain.py`). `SCHEMA` says which dataclass each section fills.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from data_pipeline.reading.pipeline import PipelineConfig
from hicmae_jax.model import sizes
from hicmae_jax.model.config import CPU_LAYOUT, PLAIN_LAYOUT, ExecutionConfig, MaskConfig, ModelConfig
from hicmae_jax.objective.config import LossConfig
from hicmae_jax.preprocessing.pretrain import PreprocessConfig
from hicmae_jax.settings import attention
from hicmae_jax.settings.schedule import length_and_warmup
from hicmae_jax.settings.schema import AUTO, Schema, Section, nested, shown
from hicmae_jax.settings.sections import (
    CheckpointConfig,
    EvaluationConfig,
    FaultsConfig,
    GeneralConfig,
    LogConfig,
)
from hicmae_jax.training.optimizer import OptimizerConfig

SCHEMA = Schema(
    Section(GeneralConfig),
    {
        # None: as the size says.
        "model": Section(
            ModelConfig,
            open=(
                *("encoder_dim", "encoder_heads", "encoder_depth"),
                *("decoder_dim", "decoder_heads", "skip_layers"),
            ),
        ),
        "execution": Section(ExecutionConfig, auto=("dtype", "attention", "layout", "remat_encoder")),
        "masks": Section(MaskConfig),
        "loss": Section(LossConfig),
        "preprocess": Section(PreprocessConfig, elsewhere=("model", "masks"), auto=("pixels",)),
        # Layer-wise rates are for fine-tuning.
        "optimizer": Section(
            OptimizerConfig,
            elsewhere=(
                *("batch", "epochs", "warmup_epochs", "warmup_examples", "steps_per_epoch"),
                "layer_decay",
            ),
        ),
        # None: one thread for each core.
        "data": Section(PipelineConfig, elsewhere=("batch", "seed", "frames"), open=("threads",)),
        "checkpoint": Section(CheckpointConfig),
        "log": Section(LogConfig),
        "evaluation": Section(EvaluationConfig),
        "faults": Section(FaultsConfig),
    },
)


def settings() -> Mapping[str, Any]:
    """Dotted name of every setting, with its type."""
    return SCHEMA.hints


@dataclasses.dataclass(frozen=True)
class PretrainSettings:
    """All that decides a pre-training run; made by `from_config_dict`.

    Attributes:
        values: the value of every setting by dotted name. Everything else is made of them.
    """

    values: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Check every section, and what the sections must agree on.

        Raises:
            ValueError: one line with the setting, its value and what is allowed.
        """
        for section in ("general", *SCHEMA.sections):
            getattr(self, section)
        # A group must lie in one micro-batch. Negatives from the whole batch take two passes instead.
        group, micro_batch = self.loss.group_size, self.batch // self.accumulate
        if group is not None and micro_batch % group:
            raise ValueError(
                f"loss.negatives = {self.loss.negatives!r}: batch / accumulate, {micro_batch} clips, is not "
                f"a multiple of {group}: change the groups or the batch"
            )

    def changed(self, changes: Mapping[str, Any]) -> "PretrainSettings":
        """The same run with other values of some settings, by dotted name.

        Raises:
            ValueError: one line with the setting, its value and what is allowed.
        """
        return PretrainSettings({**self.values, **changes})

    @functools.cached_property
    def general(self) -> GeneralConfig:
        """The settings that belong to no section."""
        return SCHEMA.make("", GeneralConfig, self.values)

    @functools.cached_property
    def model(self) -> ModelConfig:
        """Geometry, widths and wiring."""
        return SCHEMA.make("model", ModelConfig, self.values)

    @functools.cached_property
    def execution(self) -> ExecutionConfig:
        """How the model is computed."""
        return SCHEMA.make("execution", ExecutionConfig, self.values)

    @functools.cached_property
    def masks(self) -> MaskConfig:
        """Kinds and ratios of the masks."""
        return SCHEMA.make("masks", MaskConfig, self.values)

    @functools.cached_property
    def loss(self) -> LossConfig:
        """The objective."""
        return SCHEMA.make("loss", LossConfig, self.values)

    @functools.cached_property
    def preprocess(self) -> PreprocessConfig:
        """Augmentation, with the model and the masks."""
        return SCHEMA.make("preprocess", PreprocessConfig, self.values, model=self.model, masks=self.masks)

    @functools.cached_property
    def optimizer(self) -> OptimizerConfig:
        """The optimiser; an epoch of one step where the length is in epochs (see `optimizer_config`)."""
        length, warmup, examples = length_and_warmup(self.values)
        return SCHEMA.make(
            "optimizer",
            OptimizerConfig,
            self.values,
            batch=self.batch,
            epochs=length,
            warmup_epochs=warmup,
            warmup_examples=examples,
            steps_per_epoch=1,
        )

    @functools.cached_property
    def data(self) -> PipelineConfig:
        """The prepared sets, and how clips are read from them."""
        return SCHEMA.make(
            "data",
            PipelineConfig,
            self.values,
            batch=self.batch,
            seed=self.seed,
            frames=self.model.frames,
        )

    @functools.cached_property
    def checkpoint(self) -> CheckpointConfig:
        """When checkpoints are written."""
        return SCHEMA.make("checkpoint", CheckpointConfig, self.values)

    @functools.cached_property
    def log(self) -> LogConfig:
        """Logs and profile."""
        return SCHEMA.make("log", LogConfig, self.values)

    @functools.cached_property
    def evaluation(self) -> EvaluationConfig:
        """The evaluation during training."""
        return SCHEMA.make("evaluation", EvaluationConfig, self.values)

    @functools.cached_property
    def faults(self) -> FaultsConfig:
        """Which faults are reported, and when the run gives up."""
        return SCHEMA.make("faults", FaultsConfig, self.values)

    @property
    def size(self) -> str:
        """Name of the model's size, before any change to single settings of it."""
        return self.general.size

    @property
    def seed(self) -> int:
        """The seed of parameters, order of clips, augmentation and masks."""
        return self.general.seed

    @property
    def batch(self) -> int:
        """Clips in an update, over all hosts and micro-batches."""
        return self.general.batch

    @property
    def accumulate(self) -> int:
        """Micro-batches in an update."""
        return self.general.accumulate

    @property
    def fsdp(self) -> int:
        """Devices that share one copy of the state."""
        return self.general.fsdp

    def optimizer_config(self, steps_per_epoch: int) -> OptimizerConfig:
        """The optimiser and its schedule on data of known size.

        Args:
            steps_per_epoch: whole batches in the data.

        Raises:
            ValueError: no whole batch.
        """
        if self.general.steps is not None:
            return self.optimizer
        return dataclasses.replace(self.optimizer, steps_per_epoch=steps_per_epoch)

    def total_steps(self, steps_per_epoch: int) -> int:
        """Updates in the whole run, on data of that many whole batches."""
        optimizer = self.optimizer_config(steps_per_epoch)
        return optimizer.epochs * optimizer.steps_per_epoch

    def to_dict(self) -> dict[str, Any]:
        """All values in the shape of a recipe, as JSON can hold them.

        `from_config_dict` makes equal settings of it. Nothing is left open: widths, threads and dtype are
        those of the run.
        """
        return nested({k: list(v) if isinstance(v, tuple) else v for k, v in self.values.items()})

    def as_text(self) -> str:
        """All values as aligned lines, one for each setting."""
        width = max(map(len, self.values))
        return "\n".join(f"{key:{width}}  {shown(value)}" for key, value in self.values.items())


def from_config_dict(
    config: ConfigDict | Mapping[str, Any], platform: str, begun: Mapping[str, Any] | None = None
) -> PretrainSettings:
    """Check a configuration and make the choices that it leaves open.

    Args:
        config: settings from `get_config` of a recipe, or from `PretrainSettings.to_dict`.
        platform: of the devices, as `chips.platform` names it, for settings that are `auto`.
        begun: settings of the run that goes on, by dotted name, for pixels and layout of `auto`; None for a
            new run.

    Raises:
        ValueError: one line with the dotted name of the setting, its value and what is allowed.
    """
    values = SCHEMA.read(config)
    SCHEMA.make("", GeneralConfig, values)
    _check_sets(values)
    if values["execution.dtype"] == AUTO:
        values["execution.dtype"] = "float32" if platform == "cpu" else "bfloat16"
    # A run goes on as it was begun: otherwise other pixels, or products rounded otherwise, would follow.
    begun = begun or {"preprocess.pixels": PreprocessConfig.pixels, "execution.layout": CPU_LAYOUT}
    if values["preprocess.pixels"] == AUTO:
        values["preprocess.pixels"] = begun["preprocess.pixels"]
    if values["execution.layout"] == AUTO:
        values["execution.layout"] = begun["execution.layout"] if platform == "cpu" else PLAIN_LAYOUT
    of_size = functools.partial(sizes.model_config, values["size"])
    model = SCHEMA.make("model", of_size, values)
    values |= SCHEMA.values_of("model", model)
    kind, dtype = values["execution.attention"], values["execution.dtype"]
    values["execution.attention"] = attention.choose(kind, dtype, model, platform)
    if values["execution.remat_encoder"] == AUTO:
        # GPUs have the memory, and without a loop less traffic; see `docs/scale.md`.
        values["execution.remat_encoder"] = "none" if values["execution.attention"] == "cudnn" else "full"
    if values["data.threads"] is None:
        values["data.threads"] = PipelineConfig.threads
    return PretrainSettings(values)


def _check_sets(values: Mapping[str, Any]) -> None:
    if not values["data.sets"]:
        raise ValueError("data.sets is empty: name the directories of prepared sets to train on")
    if len(set(values["data.sets"])) < len(values["data.sets"]):
        raise ValueError(f"data.sets {values['data.sets']} names a set twice: say its share by data.weights")
