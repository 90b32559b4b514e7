"""Checkpoints of a run that trains: the whole train state, and a record of what the run is.

::

    <run>/checkpoints/<step>/state             step, parameters, optimiser state (Orbax, one array a leaf)
    <run>/checkpoints/<step>/record.json       {"config": …, "versions": …, "data": {directory: fingerprint}}
    <run>/checkpoints/<step>/checksums.json    size and checksum of every other file
    <run>/damaged_checkpoints/<step>           damaged checkpoints that a resumed run has moved here

Orbax's manager writes a checkpoint in threads under a temporary name, renames it to its step, and then
removes older ones. Before the rename this module adds the record, counts the parts of the arrays and writes
the checksums. The checksums show whether the files have changed since. A resumed run removes what a killed
save has left. Any number of devices and hosts can read a checkpoint, whatever number wrote it.

The last `keep` checkpoints stay, and so do milestones, those for branches and, if asked for, the best by a
score (see `best`).
"""

import dataclasses
import json
import re
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Self, TypeVar

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import checkpoint_managers as policies

from data_pipeline.common.errors import first_line
from hicmae_jax.checkpoints import checksums, reader
from hicmae_jax.checkpoints.barrier import Barrier, OtherHostFailedError
from hicmae_jax.checkpoints.best import BestBy, find_best, with_score
from hicmae_jax.checkpoints.damage import find_damage
from hicmae_jax.checkpoints.reader import DIRECTORY, RECORD, STATE
from hicmae_jax.hosts import agreement

DAMAGED = "damaged_checkpoints"
PARTIAL = ocp.utils.TMP_DIR_SUFFIX
"""Ending of the name of a checkpoint that is not complete yet."""
_LEFTOVER = re.compile(rf"\d+({re.escape(PARTIAL)}|\.partial|\.removed)")  # the last two of earlier versions
# Seconds for which a process that ends with an error waits for the other processes to write their parts.
SECONDS_FOR_OTHERS = 30.0

Record = Mapping[str, Any]
# The last step, and the best step with its score.
_Stock = tuple[int | None, tuple[int, float] | None]
Decision = TypeVar("Decision")


class _SyncedPath(ocp.path.atomicity.AtomicRenameTemporaryPath):
    """Makes the new name of a checkpoint survive a power cut, before older checkpoints are removed."""

    async def finalize(self) -> None:
        await super().finalize()
        checksums.sync(self.get_final().parent)


@dataclasses.dataclass
class _KeepBest(policies.PreservationPolicy):
    """Keeps the best checkpoint; Orbax's `BestN` would lose it if the file of its score is damaged."""

    step: int | None = None

    def should_preserve(
        self,
        checkpoints: Sequence[policies.PolicyCheckpointInfo],
        *,
        context: policies.PreservationContext,
    ) -> Sequence[bool]:
        return [checkpoint.step == self.step for checkpoint in checkpoints]


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
    ) -> None:
        """Open the checkpoints of a run.

        Args:
            run: directory of the run on a local or mounted disk; it is made if it is missing.
            keep: number of last checkpoints to keep.
            milestone: checkpoints of steps that are multiples of it are never removed; None for none.
            best: also keep the best checkpoint by this score.
            branches: checkpoints of these steps are never removed.

        Raises:
            ValueError: `keep` or `milestone` is below 1.
            OSError: the directory cannot be made or read.
        """
        if keep < 1 or (milestone is not None and milestone < 1):
            raise ValueError(f"keep = {keep} and milestone = {milestone} must be at least 1")
        self._run = reader.absolute(run)
        self._root = self._run / DIRECTORY
        self.best = best
        self._step_being_saved: int | None = None
        self._barrier, self._keep_best = Barrier(), _KeepBest()
        self._latest: int | None
        self._best_value: float | None
        self._take_stock(_decided_by_first_process(self._open))
        self._manager = self._make_manager(keep, milestone, branches)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if kind is None:
            self.close()
        else:
            # The other processes may go on, so this one cannot exchange messages with them.
            self._finish(ask_others=False)
            self._manager.close()

    def latest_step(self) -> int | None:
        """The last step that is saved or being saved; None if there is none."""
        return self._latest if self._step_being_saved is None else self._step_being_saved

    def has_failed(self) -> bool:
        """Whether the current save has failed; `wait` says why."""
        return self._step_being_saved is not None and self._barrier.failure is not None

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
        stock, lines = _decided_by_first_process(lambda: self._clear_up(accept))
        self._take_stock(stock)
        self._manager.reload()
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
                self._keep_best.step, self._best_value = step, value
            record = with_score(record, self.best, value)
        self._step_being_saved = step
        self._barrier.begin()
        self._arrays, self._record_text = len(jax.tree.leaves(state)), json.dumps(record)
        arguments = ocp.args.Composite(**{STATE: ocp.args.StandardSave(state)})
        try:
            self._manager.save(step, args=arguments, force=True)
        except OSError as error:
            raise RuntimeError(f"{self._root}: {self._not_saved(error)}") from error

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
            path = reader.find(self._root, self._latest)
            reader.check_same_arrays(path, reader.read_shapes(path), abstract_state)
            return reader.read_state(path, ocp.StandardCheckpointHandler(), arguments)

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
        try:
            self.wait()
        finally:
            self._manager.close()

    # --- Saving ---

    def _make_manager(
        self, keep: int, milestone: int | None, branches: Collection[int]
    ) -> ocp.CheckpointManager:
        kept = [policies.LatestN(keep), policies.CustomSteps(tuple(branches)), self._keep_best]
        if milestone is not None:
            kept.append(policies.EveryNSteps(milestone))
        options = ocp.CheckpointManagerOptions(
            create=False,
            preservation_policy=policies.AnyPreservationPolicy(kept),
            # The hosts may see different files for a while.
            single_host_load_and_broadcast=True,
            # Otherwise a damaged description of one checkpoint would stop every run.
            lightweight_initialize=True,
            temporary_path_class=_SyncedPath,
            async_options=ocp.AsyncOptions(
                barrier_sync_fn=self._barrier, post_finalization_callback=self._complete
            ),
        )
        return ocp.CheckpointManager(self._root, options=options)

    def _complete(self) -> None:
        """Add to the written checkpoint what Orbax does not write; in a thread of the first process."""
        partial = self._root / f"{self._step_being_saved}{PARTIAL}"
        (partial / RECORD).write_text(self._record_text)
        reader.check_written(partial, self._arrays)
        checksums.seal(partial)

    def _finish(self, ask_others: bool) -> None:
        """Wait for the current save.

        Args:
            ask_others: whether to learn how the save ended in the other processes, which must ask too.

        Raises:
            RuntimeError: the save has failed, in this process or another one that was asked.
        """
        step = self._step_being_saved
        if step is None:
            return
        failure = self._wait_for_orbax(None if ask_others else SECONDS_FOR_OTHERS)
        is_theirs = isinstance(failure, OtherHostFailedError)
        mine = self._not_saved(failure) if failure and not is_theirs else ""
        reported = agreement.exchange(mine) if ask_others else [mine]
        self._step_being_saved = None
        if any(reported):
            if ask_others:
                self._take_stock(_decided_by_first_process(self._stock))
                self._manager.reload()
            self._raise_first(reported, failure)
        self._latest = step

    def _wait_for_orbax(self, patience: float | None) -> Exception | None:
        """Wait for Orbax's threads, and for the other hosts' for at most so many seconds.

        Returns:
            The error of this process, or `OtherHostFailedError`; None if the save is complete.
        """
        timer = threading.Timer(patience or 0, self._barrier.give_up)
        if patience is not None:
            timer.start()
        try:
            self._manager.wait_until_finished()
        # Keep any error; the caller reports it.
        except Exception as error:
            return error
        finally:
            timer.cancel()
        return None

    def _not_saved(self, error: Exception) -> str:
        step = self._step_being_saved
        saved = (self._root / str(step)).exists()
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

    def _open(self) -> _Stock:
        self._root.mkdir(parents=True, exist_ok=True)
        return self._stock()

    def _stock(self) -> _Stock:
        """The last step, and the best step with its score; None where there is none."""
        scored = find_best(self._root, self.best) if self.best else None
        return max(reader.find_all(self._root), default=None), scored

    def _take_stock(self, stock: _Stock) -> None:
        self._latest, best = stock
        self._keep_best.step, self._best_value = best if best else (None, None)

    def _remove_leftovers(self) -> None:
        """Remove what interrupted saves have left."""
        for path in self._root.iterdir():
            if _LEFTOVER.fullmatch(path.name):
                path.rmtree()

    def _clear_up(self, accept: Callable[[int, Record], None]) -> tuple[_Stock, list[str]]:
        good, damaged = self._find_good()
        if good is not None:
            accept(good, reader.read_record(self._root / str(good)))
        self._remove_leftovers()
        lines = []
        for step, reason in damaged.items():
            aside = self._move_away(step)
            lines.append(
                f"the checkpoint of step {step} is damaged ({reason}) and now in {aside}; going on from step "
                f"{good}"
            )
        lines += self._move_damaged_best_away(good)
        return (good, self._stock()[1]), lines

    def _find_good(self) -> tuple[int | None, dict[int, str]]:
        """The last good step, None if there are no checkpoints; and what is wrong with each one after it."""
        damaged: dict[int, str] = {}
        for step in sorted(reader.find_all(self._root), reverse=True):
            reason = find_damage(self._root / str(step))
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
            reason = find_damage(self._root / str(scored.step))
            if reason is None:
                break
            aside = self._move_away(scored.step)
            lines.append(
                f"the best checkpoint, of step {scored.step}, is damaged ({reason}) and now in {aside}"
            )
        return lines

    def _move_away(self, step: int) -> epath.Path:
        aside = _free_name(self._run / DAMAGED / str(step))
        aside.parent.mkdir(exist_ok=True)
        return (self._root / str(step)).rename(aside)


def _free_name(path: epath.Path) -> epath.Path:
    """The path, with a number added to its name if something has that name already."""
    free, number = path, 1
    while free.exists():
        number += 1
        free = path.parent / f"{path.name}-{number}"
    return free


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
