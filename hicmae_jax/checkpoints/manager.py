"""Checkpoints of a run that trains: the whole train state, and a record of what the run is.

::

    <run>/checkpoints/<step>/state             step, parameters, optimiser state (Orbax, one array a leaf)
    <run>/checkpoints/<step>/record.json       {"config": …, "versions": …, "data": {directory: fingerprint}}
    <run>/checkpoints/<step>/checksums.json    size and checksum of every other file
    <run>/damaged_checkpoints/<step>           damaged checkpoints that a resumed run has moved here

A thread writes a checkpoint. When every part of every array is there, it writes the checksums, makes the
checkpoint complete in one moment (see `disk_store` and `bucket_store`), and only then removes older
checkpoints. The checksums show whether the files have changed since. A resumed run removes what a killed
save has left. Any number of devices and hosts can read a checkpoint, whatever number wrote it.

The last `keep` checkpoints stay, and so do milestones, those for branches and, if asked for, the best by a
score (see `best`).
"""

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any, Self, TypeVar

import jax
import orbax.checkpoint as ocp
from etils import epath

from data_pipeline.common.buckets import is_bucket
from data_pipeline.common.errors import first_line
from hicmae_jax.checkpoints import checksums, reader
from hicmae_jax.checkpoints.best import BestBy, find_best, with_score
from hicmae_jax.checkpoints.damage import find_damage
from hicmae_jax.checkpoints.reader import DIRECTORY, RECORD
from hicmae_jax.checkpoints.store import open_store
from hicmae_jax.checkpoints.writer import Writer
from hicmae_jax.hosts import agreement

DAMAGED = "damaged_checkpoints"
# Seconds for which a process that ends with an error waits for the other processes to write their parts.
SECONDS_FOR_OTHERS = 30.0

Record = Mapping[str, Any]
Decision = TypeVar("Decision")


class Checkpoints:
    """Saves and restores the state of a run. Every process has its own and must make the same calls.

    Use it as a context manager, or call `close`, because the process must not end before the last save.

    Attributes:
        best: the score by which the best checkpoint is kept; None to keep no best checkpoint.
    """

    def __init__(
        self,
        run: epath.PathLike,
        keep: int = 3,
        milestone: int | None = None,
        best: BestBy | None = None,
        branches: Collection[int] = (),
        before_publish: Callable[[], None] = lambda: None,
    ) -> None:
        """Open the checkpoints of a run.

        Args:
            run: directory of the run, on a disk or in a bucket; it is made if it is missing.
            keep: number of last checkpoints to keep.
            milestone: checkpoints of steps that are multiples of it are never removed; None for none.
            best: also keep the best checkpoint by this score.
            branches: checkpoints of these steps are never removed.
            before_publish: called in a thread of the first process just before a checkpoint becomes complete;
                after an error of its, the checkpoint is not saved.

        Raises:
            ValueError: `keep` or `milestone` is below 1.
            OSError: the directory cannot be made or read.
            ImportError: the package for this kind of bucket is missing.
        """
        if keep < 1 or (milestone is not None and milestone < 1):
            raise ValueError(f"keep = {keep} and milestone = {milestone} must be at least 1")
        directory = reader.absolute(run)
        self._root = directory / DIRECTORY
        self._store = open_store(self._root, directory / DAMAGED, before_publish)
        self._keep, self._milestone, self._branches = keep, milestone, frozenset(branches)
        self._writer: Writer | None = None
        self._step_being_saved: int | None = None
        self.best = best
        self._latest, self._best_value = _decided_by_first_process(self._open)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        try:
            # After an error the other processes may go on, so this one cannot exchange messages with them.
            self._finish(ask_others=kind is None)
        finally:
            self._store.close()

    def latest_step(self) -> int | None:
        """The last step that is saved or being saved; None if there is none."""
        return self._latest if self._writer is None else self._step_being_saved

    def has_failed(self) -> bool:
        """Whether this process has failed to write its part of the current save; `wait` says why."""
        return self._writer is not None and self._writer.failure is not None

    def is_best(self, scores: Mapping[str, float]) -> bool:
        """Whether these scores are better than those of every checkpoint so far, by the score in `best`.

        Args:
            scores: name in the log → score; the same on every process.
        """
        if self.best is None or self.best.score not in scores:
            return False
        return self.best.is_better(scores[self.best.score], self._best_value)

    def last_good(
        self, accept: Callable[[int, Record], None] = lambda step, record: None
    ) -> tuple[int | None, list[str]]:
        """Find the last checkpoint that is not damaged; then clear away what a run cannot use.

        Damaged checkpoints are moved to `damaged_checkpoints` in the directory of the run, never deleted.
        What interrupted saves have left is removed. Only the checkpoints after the one to be used are
        checked, and the best one.

        Args:
            accept: called with the step and the record of the checkpoint, before anything is moved or
                removed; raises ValueError if the run may not go on from there. Only the first process calls
                it.

        Returns:
            The step of the last good checkpoint, None if there are no checkpoints at all; and one line for
            each damaged one: what is wrong with it, where it is now and which one is used instead.

        Raises:
            ValueError: there are checkpoints, but all are damaged; or `accept` has refused.
            OSError: one cannot be moved.
        """
        self.wait()
        self._latest, self._best_value, lines = _decided_by_first_process(lambda: self._clear_up(accept))
        return self._latest, lines

    def save(self, step: int, state: Any, record: Record, scores: Mapping[str, float] | None = None) -> None:
        """Start to save; returns when the state has been copied, so the caller may donate it then.

        It waits for the previous save first. Older checkpoints are removed when this one is complete.

        Args:
            step: number of updates made, above every saved step.
            state: tree of arrays, whose parameters are its field or key `params`.
            record: description of the run, in types of JSON.
            scores: name in the log → score of this state. If the best checkpoint is kept, its score is
                added to the record.

        Raises:
            ValueError: there is a checkpoint of that or a later step.
            RuntimeError: this save cannot start, or the previous save has failed.
        """
        self.wait()
        if self._latest is not None and self._latest >= step:
            raise ValueError(
                f"{self._root}: step {step} cannot be saved, because there is a checkpoint of step "
                f"{self._latest}"
            )
        if self.best is not None and scores and self.best.score in scores:
            value = float(scores[self.best.score])
            if self.is_best(scores):
                self._best_value = value
            record = with_score(record, self.best, value)
        self._step_being_saved = step
        self._raise_first(agreement.exchange(self._failure_to_begin(step)))
        arrays, record_text = len(jax.tree.leaves(state)), json.dumps(record)
        self._writer = Writer(self._store, step, state, lambda: self._complete(step, arrays, record_text))

    def restore(self, abstract_state: Any) -> Any:
        """Read the state of the latest step, bit for bit, with the shardings asked for.

        Args:
            abstract_state: tree of `jax.ShapeDtypeStruct` with shardings, on any mesh.

        Returns:
            A tree of that structure, of `jax.Array`.

        Raises:
            FileNotFoundError: there is no checkpoint.
            ValueError: the checkpoint holds other arrays, or cannot be read.
        """
        self.wait()
        arguments = ocp.args.StandardRestore(abstract_state)
        with agreement.all_or_none():
            step = int(reader.find(self._root, self._latest).name)
            path = self._store.local(step)
            if is_bucket(self._root) and (reason := find_damage(path)):
                raise ValueError(f"{self._root / str(step)}: {reason} after it was fetched from the bucket")
            reader.check_same_arrays(path, reader.read_shapes(path), abstract_state)
            state = reader.read_state(path, ocp.StandardCheckpointHandler(), arguments)
        self._store.forget()
        return state

    def read_record(self) -> dict[str, Any]:
        """Read the record of the latest checkpoint.

        Raises:
            FileNotFoundError: there is no checkpoint.
            ValueError: the record cannot be read.
        """
        self.wait()
        with agreement.all_or_none():
            return reader.read_record(reader.find(self._root, self._latest))

    def wait(self) -> None:
        """Wait until the current save is complete and old checkpoints are removed.

        Raises:
            RuntimeError: the save has failed in this or another process.
        """
        self._finish(ask_others=True)

    def close(self) -> None:
        """Wait for the last save.

        Raises:
            RuntimeError: it has failed in this or another process.
        """
        self.wait()
        self._store.close()

    # --- Saving ---

    def _failure_to_begin(self, step: int) -> str:
        """Make the directories to write to.

        Returns:
            One line about the failure; empty if there was none.
        """
        try:
            self._store.begin(step)
        except OSError as error:
            return self._not_saved(error)
        return ""

    def _complete(self, step: int, arrays: int, record: str) -> None:
        """Complete the checkpoint that all processes have written, and remove older ones; in a thread."""
        whole = self._store.part(step)
        (whole / RECORD).write_text(record)
        reader.check_written(whole, arrays)
        checksums.seal(whole)
        self._store.publish(step)
        self._remove_old()

    def _remove_old(self) -> None:
        steps = self._store.steps()
        scored = find_best(self._root, self.best) if self.best else None
        for step in steps[: -self._keep]:
            is_milestone = self._milestone is not None and step % self._milestone == 0
            is_best = scored is not None and step == scored.step
            if is_milestone or is_best or step in self._branches:
                continue
            self._store.remove(step)

    def _finish(self, ask_others: bool) -> None:
        """Wait for the current save.

        Args:
            ask_others: whether to learn how the save ended in the other processes, which must ask too.

        Raises:
            RuntimeError: the save has failed, in this process or another one that was asked.
        """
        writer, step = self._writer, self._step_being_saved
        if writer is None:
            return

        def failures() -> list[str]:
            mine = self._not_saved(writer.failure) if writer.failure else ""
            return agreement.exchange(mine) if ask_others else [mine]

        writer.wait_written()
        reported = failures()
        if any(reported) or (not ask_others and not writer.wait_complete(self._patience())):
            writer.give_up()
        else:
            writer.wait_complete()
            reported = failures()
        self._writer = None
        self._raise_first(reported, writer.failure)
        self._latest = step

    def _patience(self) -> float | None:
        return SECONDS_FOR_OTHERS if jax.process_count() > 1 else None

    def _not_saved(self, error: Exception) -> str:
        step = self._step_being_saved
        saved = step is not None and self._store.holds(step)
        what = "is saved, but older ones were not removed" if saved else "was not saved"
        last = step if saved else self._latest
        again = "begin again" if last is None else f"go on from step {last}"
        return (
            f"the checkpoint of step {step} {what}: {first_line(error)}; mend that, and "
            f"give the same command to {again}"
        )

    def _raise_first(self, failures: list[str], cause: Exception | None = None) -> None:
        for host, failure in enumerate(failures):
            if failure:
                where = f"host {host}: " if len(failures) > 1 else ""
                raise RuntimeError(f"{where}{self._root}: {failure}") from cause

    # --- Resuming ---

    def _open(self) -> tuple[int | None, float | None]:
        """Make the directory; returns the last step and the best score in it."""
        self._store.open()
        return max(self._store.steps(), default=None), self._read_best_value()

    def _read_best_value(self) -> float | None:
        scored = find_best(self._root, self.best) if self.best else None
        return None if scored is None else scored.value

    def _clear_up(self, accept: Callable[[int, Record], None]) -> tuple[int | None, float | None, list[str]]:
        good, damaged = self._find_good()
        if good is not None:
            accept(good, reader.read_record(self._root / str(good)))
        self._store.clear()
        lines = []
        for step, reason in damaged.items():
            aside = self._store.move_away(step)
            lines.append(
                f"the checkpoint of step {step} is damaged ({reason}) and now in {aside}; going on from step "
                f"{good}"
            )
        lines += self._move_damaged_best_away(good)
        return good, self._read_best_value(), lines

    def _find_good(self) -> tuple[int | None, dict[int, str]]:
        """The last good step, None if there are no checkpoints; and what is wrong with each one after it."""
        damaged: dict[int, str] = {}
        for step in reversed(self._store.steps()):
            reason = find_damage(self._store.local(step))
            if reason is None:
                return step, damaged
            damaged[step] = reason
        if damaged:
            reasons = "; ".join(f"step {step}: {reason}" for step, reason in damaged.items())
            raise ValueError(
                f"{self._root}: every checkpoint is damaged ({reasons}); put a good copy of one there, or "
                "begin again in a new directory"
            )
        return None, damaged

    def _move_damaged_best_away(self, good: int | None) -> list[str]:
        """Move the best checkpoint away while it is damaged, so that the next one becomes the best."""
        lines = []
        while self.best and (scored := find_best(self._root, self.best)) and scored.step != good:
            reason = find_damage(self._store.local(scored.step))
            if reason is None:
                break
            aside = self._store.move_away(scored.step)
            lines.append(
                f"the best checkpoint, of step {scored.step}, is damaged ({reason}) and now in {aside}"
            )
        return lines


def _decided_by_first_process(decide: Callable[[], Decision]) -> Decision:
    """Let the first process decide, and tell all processes; they raise its error if it raises one.

    Args:
        decide: returns a value in types of JSON; a tuple becomes a list.
    """
    decision = None
    with agreement.all_or_none():
        if jax.process_index() == 0:
            decision = decide()
    return json.loads(agreement.exchange(json.dumps(decision))[0])
