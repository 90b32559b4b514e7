"""The settings of a fine-tuning run: checked, and with every open choice made.

A recipe contains only data (see `configs/finetune.py`). `SCHEMA` says which dataclass each section fills.
"""

import dataclasses
import functools
import types
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from hicmae_jax.model import sizes
from hicmae_jax.model.config import CPU_LAYOUT, ExecutionConfig, FinetuneConfig, ModelConfig
from hicmae_jax.objective.finetune import FinetuneLossConfig
from hicmae_jax.preprocessing.finetune import FinetunePreprocessConfig
from hicmae_jax.preprocessing.mixing import MixingConfig
from hicmae_jax.settings import execution
from hicmae_jax.settings.finetune_sections import (
    InitialConfig,
    LabelledDataConfig,
    ScoringConfig,
    TuningConfig,
)
from hicmae_jax.settings.run_settings import RunSettings
from hicmae_jax.settings.schema import AUTO, Schema, Section, flatten
from hicmae_jax.settings.sections import CheckpointConfig, FaultsConfig, GeneralConfig, LogConfig
from hicmae_jax.training.optimizer import OptimizerConfig

_SINCE: Mapping[str, Any] = types.MappingProxyType({"data.cache": "", "data.cache_gb": 0.0})
"""Settings that were added after the first checkpoints, with the value that describes what older code did."""
_MODEL_FIELDS = tuple(field.name for field in dataclasses.fields(ModelConfig))
SCHEMA = Schema(
    Section(GeneralConfig),
    {
        "initial": Section(InitialConfig),
        # None: as the initial weights, or as the size where there are none.
        "model": Section(ModelConfig, open=_MODEL_FIELDS),
        "finetune": Section(FinetuneConfig, elsewhere=("outputs",)),
        "tuning": Section(TuningConfig),
        "execution": Section(ExecutionConfig, auto=("dtype", "attention", "layout", "remat_encoder")),
        # None: one thread for each core.
        "data": Section(LabelledDataConfig, open=("threads",)),
        "preprocess": Section(FinetunePreprocessConfig, elsewhere=("model",)),
        "mixing": Section(MixingConfig),
        "loss": Section(FinetuneLossConfig),
        "optimizer": Section(
            OptimizerConfig,
            # Rates by width are for pre-training.
            elsewhere=(
                *("batch", "epochs", "warmup_epochs", "warmup_examples", "steps_per_epoch"),
                "base_width",
            ),
        ),
        "checkpoint": Section(CheckpointConfig),
        # Losses by set are for pre-training.
        "log": Section(LogConfig, elsewhere=("by_set",)),
        "scoring": Section(ScoringConfig),
        "faults": Section(FaultsConfig),
    },
)


class FinetuneSettings(RunSettings):
    """All that decides a fine-tuning run; made by `from_config_dict`."""

    schema = SCHEMA

    def __post_init__(self) -> None:
        """Check every section, and what the sections must agree on.

        Raises:
            ValueError: one line with the setting, its value and what is allowed.
        """
        super().__post_init__()
        if self.tuning.modality_dropout and self.finetune.modality != "audio-visual":
            raise ValueError(
                f"tuning.modality_dropout {self.tuning.modality_dropout} needs two modalities, but "
                f"finetune.modality is {self.finetune.modality}: set one of them back"
            )
        group, micro_batch = self.mixing.group, self.batch // self.accumulate
        if group is not None and micro_batch % group:
            raise ValueError(
                f"mixing.group {group}: batch / accumulate, {micro_batch} clips, is not a multiple of it: "
                "change the group or the batch"
            )

    @functools.cached_property
    def initial(self) -> InitialConfig:
        """The weights to begin with."""
        return SCHEMA.make("initial", InitialConfig, self.values)

    @functools.cached_property
    def finetune(self) -> FinetuneConfig:
        """The fine-tuning model; `outputs` is 1 here, see `for_outputs`."""
        return SCHEMA.make("finetune", FinetuneConfig, self.values, outputs=1)

    def for_outputs(self, outputs: int) -> FinetuneConfig:
        """The fine-tuning model for a number of classes or dimensions; without drop-path if it is frozen."""
        drop_path = self.finetune.drop_path if self.tuning.mode == "full" else 0.0
        return dataclasses.replace(self.finetune, outputs=outputs, drop_path=drop_path)

    @functools.cached_property
    def tuning(self) -> TuningConfig:
        """Which parameters are trained."""
        return SCHEMA.make("tuning", TuningConfig, self.values)

    @functools.cached_property
    def data(self) -> LabelledDataConfig:
        """The labelled sets, the fold, and how clips are read."""
        return SCHEMA.make("data", LabelledDataConfig, self.values)

    @functools.cached_property
    def preprocess(self) -> FinetunePreprocessConfig:
        """Augmentation on the devices."""
        return SCHEMA.make("preprocess", FinetunePreprocessConfig, self.values, model=self.model)

    @functools.cached_property
    def mixing(self) -> MixingConfig:
        """Mixup, cutmix and label smoothing."""
        return SCHEMA.make("mixing", MixingConfig, self.values)

    @functools.cached_property
    def loss(self) -> FinetuneLossConfig:
        """The objective."""
        return SCHEMA.make("loss", FinetuneLossConfig, self.values)

    @functools.cached_property
    def scoring(self) -> ScoringConfig:
        """Validation and scores."""
        return SCHEMA.make("scoring", ScoringConfig, self.values)


def from_config_dict(
    config: ConfigDict | Mapping[str, Any],
    platform: str,
    initial: ModelConfig | None = None,
    begun: Mapping[str, Any] | None = None,
) -> FinetuneSettings:
    """Check a configuration and make the choices that it leaves open.

    Args:
        config: settings from `get_config` of a recipe, or from `FinetuneSettings.to_dict`.
        platform: of the devices, as `chips.platform` names it, for settings that are `auto`.
        initial: the model of the initial weights; None from scratch.
        begun: settings of the run that goes on, by dotted name, whose model and layout it keeps; None for a
            new run.

    Raises:
        ValueError: one line with the dotted name of the setting, its value and what is allowed.
    """
    values = SCHEMA.read(config)
    SCHEMA.make("", GeneralConfig, values)
    begun = begun or {}
    given = {name: values[f"model.{name}"] for name in _MODEL_FIELDS}
    if begun:
        like = {name: begun[f"model.{name}"] for name in _MODEL_FIELDS}
    elif initial is not None:
        like = dataclasses.asdict(initial)
    else:
        of_size = functools.partial(sizes.model_config, values["size"])
        like = dataclasses.asdict(SCHEMA.make("model", of_size, values))
    values |= {f"model.{name}": value for name, value in {**like, **_given(given)}.items()}
    model = SCHEMA.make("model", ModelConfig, values)
    values |= SCHEMA.values_of("model", model)
    execution.settle(values, model, platform, begun.get("execution.layout", CPU_LAYOUT))
    if values["data.threads"] is None:
        values["data.threads"] = LabelledDataConfig.threads
    return FinetuneSettings(values)


def recorded(config: Mapping[str, Any], platform: str) -> FinetuneSettings:
    """Make the settings of the run that a checkpoint's record describes, to compute with them here.

    Args:
        config: `config` of the record, nested.
        platform: of the devices here, as `chips.platform` names it.

    Raises:
        ValueError: one line: the record is not of a fine-tuning run, is damaged, or is of a later version.
    """
    values = {**_SINCE, **flatten(config)}
    if "data.protocol" not in values:
        raise ValueError("this is not a fine-tuning run: name the directory of a fold")
    here = {**values, "execution.attention": AUTO, "execution.layout": AUTO}
    return from_config_dict(here, platform, begun=values)


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
