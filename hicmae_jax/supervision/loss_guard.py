"""Watches the loss of each step: reports skipped updates and losses that jump.

The training step itself skips an update whose loss or gradient is not finite (see `training.step`). The
guard records the update with the clips of its batch, and ends a run that skips many updates in a row.
"""

import collections
import statistics
from collections.abc import Sequence

from hicmae_jax.logs.events import Events

WINDOW = 100
"""Number of last losses that a loss is compared with."""
ENOUGH = 20
"""Losses that must be known before one can count as a spike."""


class LossGuard:
    """Checks the loss of every step, which is the same in all processes.

    Args:
        events: where to report.
        skips: skipped updates in a row after which the run must end.
        spike: report a loss more than `spike` mean absolute deviations above the median of the last 100.
    """

    def __init__(self, events: Events, skips: int, spike: float) -> None:
        self._events = events
        self._skips = skips
        self._spike = spike
        self._losses: collections.deque[float] = collections.deque(maxlen=WINDOW)
        self._is_spike = False

    def check(self, made: int, loss: float, skipped_in_row: int, examples: Sequence[int]) -> str | None:
        """Check one step.

        Args:
            made: steps made, with this one.
            loss: total loss of the step.
            skipped_in_row: updates skipped in a row up to this step; 0 if this one was made.
            examples: ids of the clips in its batch.

        Returns:
            Why the run must end; None if it goes on.
        """
        if not skipped_in_row:
            self._look_for_spike(made, loss, examples)
            return None
        self._events.note(
            "skipped update",
            f"step {made:,}: loss or gradient is not finite (loss {loss}), update skipped, {skipped_in_row} "
            "in a row; its clips are in events.jsonl",
            step=made,
            loss=str(loss),
            in_row=skipped_in_row,
            examples=list(examples),
        )
        if skipped_in_row < self._skips:
            return None
        return (
            f"{skipped_in_row} updates in a row, up to step {made:,}, had a loss or gradient that is not "
            "finite and were skipped: the last checkpoint holds the state from before them; look at their "
            "clips in events.jsonl, or go on from it with a lower optimizer.base_rate"
        )

    def _look_for_spike(self, made: int, loss: float, examples: Sequence[int]) -> None:
        if len(self._losses) >= ENOUGH:
            median = statistics.median(self._losses)
            distance = statistics.fmean(abs(other - median) for other in self._losses)
            was_spike, self._is_spike = self._is_spike, loss > median + self._spike * distance
            # One report, however long the loss stays up.
            if self._is_spike and not was_spike:
                self._events.note(
                    "loss spike",
                    f"step {made:,}: loss {loss:.4f}, where the last {len(self._losses)} had a median of "
                    f"{median:.4f}; its clips are in events.jsonl",
                    step=made,
                    loss=loss,
                    median=median,
                    examples=list(examples),
                )
        self._losses.append(loss)
