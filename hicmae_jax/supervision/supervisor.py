"""Decides after each step whether the run must stop or save: signals, failed saves, losses, the time.

Each step gives all processes the ids of its clips and whether a process has a reason to stop or to save. The
decision is made two steps later from numbers that are the same in every process, so that all of them save
and end at the same step without waiting for one another.
"""

import contextlib
import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hicmae_jax.supervision.loss_guard import LossGuard
from hicmae_jax.supervision.signals import Stopped, StopSignals
from hicmae_jax.supervision.watchdog import Watchdog
from hicmae_jax.training.sharding import batch_sharding, replicated

SAVE_FAILED = 1
"""A reason to stop, like the numbers of signals; of several reasons, the highest number counts."""


@dataclasses.dataclass(frozen=True)
class StepInFlight:
    """A step that the devices may not have finished.

    Attributes:
        made: steps made, with this one.
        numbers: arrays on the devices, which `step_finished` reads.
    """

    made: int
    numbers: Mapping[str, Any]


class Supervisor:
    """Combines what watches a run; every process must make the same calls.

    Args:
        mesh: devices of the run.
        stop_signals: entered by the caller.
        guard: checks the losses.
        watchdog: entered by the caller.
    """

    def __init__(
        self, mesh: jax.sharding.Mesh, stop_signals: StopSignals, guard: LossGuard, watchdog: Watchdog
    ) -> None:
        self._interruption = stop_signals
        self._guard = guard
        self._watchdog = watchdog
        self._by_device = batch_sharding(mesh)
        self._local_devices = len(self._by_device.addressable_devices)
        # A collective, so only with several processes.
        self._tell_all = None
        if jax.process_count() > 1:
            everywhere = replicated(mesh)
            self._tell_all = jax.jit(
                lambda ids, stop, save: (ids, jnp.max(stop), jnp.max(save)), out_shardings=everywhere
            )

    def start(self) -> None:
        """From now on a signal is only recorded; see `StopSignals.defer`."""
        self._interruption.defer()

    def stage(self, name: str) -> contextlib.AbstractContextManager[None]:
        """Say what the main thread does inside the block; see `Watchdog.stage`."""
        return self._watchdog.stage(name)

    def spent(self) -> dict[str, float]:
        """The account of this process's time; see `logs.ledger`."""
        return self._watchdog.spent()

    def step_started(
        self,
        made: int,
        metrics: Mapping[str, jax.Array],
        batch: Mapping[str, jax.Array],
        save_failed: bool = False,
        save_due: bool = False,
    ) -> StepInFlight:
        """Record a step that was handed to the devices.

        Args:
            made: steps made, with this one.
            metrics: metrics of the step, with `loss/total` and `skipped_in_row`.
            batch: batch of the step, with `example`, the ids of its clips.
            save_failed: whether this process could not write its part of a checkpoint.
            save_due: whether it is time to save, by the clock of this process; that of the first one counts.
        """
        examples = batch["example"]
        stop = max(self._interruption.requested, SAVE_FAILED * save_failed)
        save = int(save_due and jax.process_index() == 0)
        if self._tell_all:
            examples, stop, save = self._tell_all(examples, self._on_devices(stop), self._on_devices(save))
        numbers = {name: metrics[name] for name in ("loss/total", "skipped_in_row")}
        return StepInFlight(made, {**numbers, "examples": examples, "stop": stop, "save": save})

    def step_finished(self, step: StepInFlight) -> BaseException | None:
        """Check a step that the devices have finished.

        Returns:
            The error to raise once the state is saved: `Stopped` or a RuntimeError; None to continue.
        """
        self._watchdog.step(step.made)
        numbers = jax.device_get(step.numbers)
        why = self._guard.check(
            step.made,
            float(numbers["loss/total"]),
            int(numbers["skipped_in_row"]),
            np.asarray(numbers["examples"]).tolist(),
        )
        if why:
            return RuntimeError(why)
        stop = int(numbers["stop"])
        if stop == SAVE_FAILED:
            return RuntimeError("a checkpoint was not saved")
        return Stopped(stop) if stop else None

    @staticmethod
    def wants_save(step: StepInFlight) -> bool:
        """Whether it was time to save when a step was handed to the devices, which have finished it."""
        return bool(jax.device_get(step.numbers["save"]))

    def _on_devices(self, stop: int) -> jax.Array:
        mine = np.full(self._local_devices, stop, np.int32)
        return jax.make_array_from_process_local_data(self._by_device, mine)
