"""What the settings of every kind of run have in common: values by name, and the sections that all need."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from hicmae_jax.model.config import ExecutionConfig, ModelConfig
from hicmae_jax.settings.schedule import length_and_warmup
from hicmae_jax.settings.schema import Schema, as_json, nested, shown
from hicmae_jax.settings.sections import CheckpointConfig, FaultsConfig, GeneralConfig, LogConfig
from hicmae_jax.training.optimizer import OptimizerConfig


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """All that decides a run.

    Attributes:
        schema: the settings of this kind of run.
        values: the value of every setting by dotted name. Everything else is made of them.
    """

    schema: ClassVar[Schema]
    values: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Check every section, and what the sections must agree on.

        Raises:
            ValueError: one line with the setting, its value and what is allowed.
        """
        for section in ("general", *self.schema.sections):
            getattr(self, section)

    def changed(self, changes: Mapping[str, Any]) -> Self:
        """The same run with other values of some settings, by dotted name.

        Raises:
            ValueError: one line with the setting, its value and what is allowed.
        """
        return type(self)({**self.values, **changes})

    @functools.cached_property
    def general(self) -> GeneralConfig:
        """The settings that belong to no section."""
        return self.schema.make("", GeneralConfig, self.values)

    @functools.cached_property
    def model(self) -> ModelConfig:
        """Geometry, widths and wiring."""
        return self.schema.make("model", ModelConfig, self.values)

    @functools.cached_property
    def execution(self) -> ExecutionConfig:
        """How the model is computed."""
        return self.schema.make("execution", ExecutionConfig, self.values)

    @functools.cached_property
    def optimizer(self) -> OptimizerConfig:
        """The optimiser; an epoch of one step where the length is in epochs (see `optimizer_config`)."""
        length, warmup, examples = length_and_warmup(self.values)
        return self.schema.make(
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
    def checkpoint(self) -> CheckpointConfig:
        """When checkpoints are written."""
        return self.schema.make("checkpoint", CheckpointConfig, self.values)

    @functools.cached_property
    def log(self) -> LogConfig:
        """Logs and profile."""
        return self.schema.make("log", LogConfig, self.values)

    @functools.cached_property
    def faults(self) -> FaultsConfig:
        """Which faults are reported, and when the run gives up."""
        return self.schema.make("faults", FaultsConfig, self.values)

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
        return nested({key: as_json(value) for key, value in self.values.items()})

    def as_text(self) -> str:
        """All values as aligned lines, one for each setting."""
        width = max(map(len, self.values))
        return "\n".join(f"{key:{width}}  {shown(value)}" for key, value in self.values.items())
