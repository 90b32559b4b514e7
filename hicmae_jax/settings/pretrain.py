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
from hicmae_jax.model.config import CPU_LAYOUT, ExecutionConfig, MaskConfig, ModelConfig
from hicmae_jax.objective.config import LossConfig
from hicmae_jax.preprocessing.pretrain import PreprocessConfig
from hicmae_jax.settings import execution
from hicmae_jax.settings.run_settings import RunSettings
from hicmae_jax.settings.schema import AUTO, Schema, Section
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
class PretrainSettings(RunSettings):
    """All that decides a pre-training run; made by `from_config_dict`."""

    schema = SCHEMA

    def __post_init__(self) -> None:
        """Check every section, and what the sections must agree on.

        Raises:
            ValueError: one line with the setting, its value and what is allowed.
        """
        super().__post_init__()
        # A group must lie in one micro-batch. Negatives from the whole batch take two passes instead.
        group, micro_batch = self.loss.group_size, self.batch // self.accumulate
        if group is not None and micro_batch % group:
            raise ValueError(
                f"loss.negatives = {self.loss.negatives!r}: batch / accumulate, {micro_batch} clips, is not "
                f"a multiple of {group}: change the groups or the batch"
            )
        try:
            _ = self.held_out_preprocess
        except ValueError as error:  # the masks of training are checked above, so a ratio is of evaluation
            raise ValueError(f"evaluation.{error}") from None

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
    def evaluation(self) -> EvaluationConfig:
        """The evaluation during training."""
        return SCHEMA.make("evaluation", EvaluationConfig, self.values)

    @functools.cached_property
    def held_out_preprocess(self) -> PreprocessConfig:
        """Preprocessing of the clips on which losses are evaluated: that of training with other masks."""
        return dataclasses.replace(self.preprocess, masks=self.evaluation.masks(self.masks))


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
    # A run goes on as it was begun: otherwise other pixels, or products rounded otherwise, would follow.
    begun = begun or {"preprocess.pixels": PreprocessConfig.pixels, "execution.layout": CPU_LAYOUT}
    if values["preprocess.pixels"] == AUTO:
        values["preprocess.pixels"] = begun["preprocess.pixels"]
    of_size = functools.partial(sizes.model_config, values["size"])
    model = SCHEMA.make("model", of_size, values)
    values |= SCHEMA.values_of("model", model)
    execution.settle(values, model, platform, begun["execution.layout"])
    if values["data.threads"] is None:
        values["data.threads"] = PipelineConfig.threads
    return PretrainSettings(values)


def _check_sets(values: Mapping[str, Any]) -> None:
    if not values["data.sets"]:
        raise ValueError("data.sets is empty: name the directories of prepared sets to train on")
    if len(set(values["data.sets"])) < len(values["data.sets"]):
        raise ValueError(f"data.sets {values['data.sets']} names a set twice: say its share by data.weights")
