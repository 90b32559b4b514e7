"""A training command that the demo kills in the middle, to show that the run resumes."""

import dataclasses
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

from hicmae_jax.checkpoints import load as checkpoints
from hicmae_jax.logs import metrics
from hicmae_jax.studies.stages import Stage, StageError

POLL_SECONDS = 0.1
"""Seconds from one reading of the run's log to the next."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class KilledTraining(Stage):
    """A training command that is killed with SIGKILL, as a preemption may do.

    Attributes:
        run_directory: directory of the training run.
        kill_in: range from which the step is drawn after which the command is killed.
    """

    run_directory: Path
    kill_in: range

    def execute(self) -> dict[str, Any]:
        """Run the command until the run has logged the drawn step, and kill it.

        Returns:
            `killed`: `step`, the last one logged; `checkpoint`, the step of the last whole checkpoint;
            `loss`, step → loss of the logged steps after that checkpoint, which the resumed run repeats.

        Raises:
            StageError: the command ended before it could be killed, or an earlier attempt went too far.
        """
        step = self._draw_step()
        with self.started() as process:
            while process.poll() is None and self._last_step() < step:
                time.sleep(POLL_SECONDS)
            process.kill()
            code = process.wait()
            if code != -signal.SIGKILL:
                self.check_exit(code)
                raise StageError(f"{self.name}: it ended before it could be killed at step {step}", 1)
        print(file=sys.stderr, flush=True)  # the killed process could not end the line of its progress bar
        checkpoint = checkpoints.find_step(self.run_directory)
        losses = {line["step"]: line["loss/total"] for line in self._lines() if "loss/total" in line}
        print(
            f"killed      after step {max(losses)}; its last checkpoint is of step {checkpoint}", flush=True
        )
        repeated = {str(step): loss for step, loss in losses.items() if step > checkpoint}
        return {"killed": {"step": max(losses), "checkpoint": checkpoint, "loss": repeated}}

    def _draw_step(self) -> int:
        """A step of `kill_in` that an interrupted attempt of this stage has not reached."""
        made_before = self._last_step()
        possible = [step for step in self.kill_in if step > made_before]
        if not possible:
            last = self.kill_in[-1]
            message = f"{self.name}: {self.run_directory} is past step {last}, the last to kill it at"
            raise StageError(f"{message}: delete it", 1)
        return random.choice(possible)

    def _lines(self) -> list[dict[str, Any]]:
        written = (self.run_directory / metrics.FILE).exists()
        return metrics.read_metrics(self.run_directory) if written else []

    def _last_step(self) -> int:
        return max((line["step"] for line in self._lines()), default=0)
