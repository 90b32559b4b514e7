"""Watches the numbers of each step: updates that were skipped, and losses that jump.

The step itself skips an update whose loss or gradient is not finite (see `training.step`). Here it is written
down with the clips it was made of, and a run that skips one update after the other is ended.
"""

import collections
import statistics
from collections.abc import Sequence

from hicmae_jax.logs.events import Events

WINDOW = 100
"""Losses that a loss is compared with."""
ENOUGH = 20
"""Losses to know before one can stand out."""


class LossGuard:
    """Looks at every step's numbers, which are the same in all processes.

    Args:
        events: where to write.
        skips: updates in a row that may be skipped before the run has to end.
        spike: a loss stands out if it is above the median of the last ones by so many of their mean distances
            to it.
    """

    def __init__(self, events: Events, skips: int, spike: float) -> None:
        self._events = events
        self._skips = skips
        self._spike = spike
        self._losses: collections.deque[float] = collections.deque(maxlen=WINDOW)
        self._stands_out = False

    def check(self, made: int, loss: float, skipped_in_row: int, examples: Sequence[int]) -> str | None:
        """Look at one step.

        Args:
            made: updates made with it.
            loss: its total.
            skipped_in_row: updates skipped in a row up to it, 0 if it was not.
            examples: ids of its clips.

        Returns:
            Why the run has to end, None if it need not.
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
            stood_out, self._stands_out = self._stands_out, loss > median + self._spike * distance
            # Once, however long it stays up there.
            if self._stands_out and not stood_out:
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
