"""Checkpoints of a run: the whole train state, and a record of what the run is.

::

    <run>/checkpoints/<step>/state             step, parameters, optimiser state (Orbax, one array a leaf)
    <run>/checkpoints/<step>/record.json       {"config": …, "versions": …, "data": {directory: fingerprint}}
    <run>/checkpoints/<step>/checksums.json    the seal of all the rest
    <run>/damaged_checkpoints/<step>           what a run that went on could not use

A checkpoint is written under another name in the background; when every part of every array is there it is
sealed, and only then renamed to its step and older ones removed. The seal tells whether it is still what it
was then. What a killed save leaves is cleared away when the run goes on. Any number of devices and hosts can
read a checkpoint, whatever number wrote it.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Self

import jax
import orbax.checkpoint as ocp
from etils import epath

from data_pipeline.common.errors import first_line
from hicmae_jax.checkpoints import checksums, reader
from hicmae_jax.checkpoints.reader import DIRECTORY, RECORD, STATE
from hicmae_jax.checkpoints.writer import MARKS, Writer
from hicmae_jax.hosts import agreement

DAMAGED = "damaged_checkpoints"
# Endings of names that a checkpoint has before it is whole, and while it is being removed.
PARTIAL, REMOVED = ".partial", ".removed"
# How long a process that ends for another reason waits for the other processes' parts of the last save.
SECONDS_FOR_OTHERS = 30.0

Record = Mapping[str, Any]


class Checkpoints:
    """The checkpoints of a run that is being trained; every process makes one and calls it alike.

    Use it as a context manager, or call `close`: the process must not end before the last save has.
    """

    def __init__(self, run: epath.PathLike, keep: int = 3, milestone: int | None = None) -> None:
        """Open the checkpoints of a run, and remove what interrupted saves have left.

        Args:
            run: the run's directory, made where it is missing; on a local or mounted disk.
            keep: how many of the last checkpoints to keep.
            milestone: steps divisible by it are kept for good; None for none.

        Raises:
            ValueError: `keep` or `milestone` below 1.
            OSError: the directory cannot be made or read.
        """
        if keep < 1 or (milestone is not None and milestone < 1):
            raise ValueError(f"keep = {keep} and milestone = {milestone} must be at least 1")
        self._run = reader.absolute(run)
        self._root = self._run / DIRECTORY
        self._keep, self._milestone = keep, milestone
        self._writer: Writer | None = None
        self._step_being_saved: int | None = None
        self._latest: int | None = _as_the_first_decides(self._open)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if kind is None:
            self.close()
        else:
            # The other processes need not be on their way out, and would not answer.
            self._finish(alone=True)

    def latest_step(self) -> int | None:
        """Last step saved or being saved, None if there is none; after `last_good` one that is whole."""
        return self._latest if self._writer is None else self._step_being_saved

    def has_failed(self) -> bool:
        """Whether this process's part in the save in progress has failed; `wait` says how."""
        return self._writer is not None and self._writer.failure is not None

    def last_good(self) -> tuple[int | None, list[str]]:
        """Find the last checkpoint that is still as it was saved, and put those after it aside.

        They are moved, never deleted, to `damaged_checkpoints` in the run's directory.

        Returns:
            Its step, None if there are no checkpoints at all; and for each that was put aside what is wrong
            with it, where it is and which one is used instead, in one line.

        Raises:
            ValueError: there are checkpoints, but none is good; nothing is moved.
            OSError: one cannot be moved.
        """
        self.wait()
        self._latest, lines = _as_the_first_decides(self._put_damaged_aside)
        return self._latest, lines

    def save(self, step: int, state: Any, record: Record) -> None:
        """Begin to save; returns when the state has been copied, so that it may then be donated.

        Waits for the save before. Older checkpoints are removed only when this one is complete.

        Args:
            step: number of updates made, above every saved step.
            state: tree of arrays, whose parameters are its field or key `params`.
            record: what the run is; JSON only.

        Raises:
            ValueError: there is a checkpoint of that or a later step.
            RuntimeError: this save cannot begin, or the save before has failed.
        """
        self.wait()
        if self._latest is not None and self._latest >= step:
            raise ValueError(
                f"{self._root}: step {step} cannot be saved, because there is a checkpoint of step "
                f"{self._latest}"
            )
        partial = self._root / f"{step}{PARTIAL}"
        self._step_being_saved = step
        self._raise_first(agreement.exchange(self._failure_to_begin(partial)))
        arrays, record_text = len(jax.tree.leaves(state)), json.dumps(record)
        self._writer = Writer(partial, state, lambda: self._complete(step, partial, arrays, record_text))

    def restore(self, abstract_state: Any) -> Any:
        """Read the state of the latest step, bit for bit, onto the devices and with the shardings asked for.

        Args:
            abstract_state: tree of `jax.ShapeDtypeStruct` with shardings, of any mesh.

        Returns:
            A tree of that structure, of `jax.Array`.

        Raises:
            FileNotFoundError: no checkpoint.
            ValueError: the checkpoint holds other arrays, or cannot be read.
        """
        self.wait()
        arguments = ocp.args.StandardRestore(abstract_state)
        with agreement.all_or_none():
            path = reader.find(self._root, self._latest)
            reader.check_same_arrays(path, reader.read_shapes(path), abstract_state)
            return reader.read_state(path, ocp.StandardCheckpointHandler(), arguments)

    def read_record(self) -> dict[str, Any]:
        """Read what the run was when it saved the latest step.

        Raises:
            FileNotFoundError: no checkpoint.
            ValueError: it cannot be read.
        """
        self.wait()
        with agreement.all_or_none():
            return reader.read_record(reader.find(self._root, self._latest))

    def wait(self) -> None:
        """Wait until the save in progress is complete, and old checkpoints are removed.

        Raises:
            RuntimeError: the save has failed, in this or another process.
        """
        self._finish(alone=False)

    def close(self) -> None:
        """Wait for the last save.

        Raises:
            RuntimeError: it has failed, in this or another process.
        """
        self.wait()

    # --- Saving ---

    def _failure_to_begin(self, partial: epath.Path) -> str:
        """Make the directories to write to, in the first process; what went wrong, or nothing."""
        if jax.process_index() > 0:
            return ""
        try:
            if partial.exists():  # of a save that failed
                partial.rmtree()
            for name in (STATE, MARKS):
                (partial / name).mkdir(parents=True)
        except OSError as error:
            return self._not_saved(error)
        return ""

    def _complete(self, step: int, partial: epath.Path, arrays: int, record: str) -> None:
        """Make a checkpoint of what all processes have written, and remove older ones; in a thread."""
        (partial / RECORD).write_text(record)
        reader.check_written(partial, arrays)
        checksums.seal(partial)
        partial.rename(self._root / str(step))
        checksums.sync(self._root)
        self._remove_old()

    def _remove_old(self) -> None:
        steps = sorted(reader.find_all(self._root))
        for step in steps[: -self._keep]:
            if self._milestone is None or step % self._milestone:
                # Interrupted in between, it would look like a checkpoint by half.
                removed = (self._root / str(step)).rename(self._root / f"{step}{REMOVED}")
                removed.rmtree()

    def _finish(self, alone: bool) -> None:
        """Wait for the save in progress; unless alone, until it is known how it ended in all processes."""
        writer, step = self._writer, self._step_being_saved
        if writer is None:
            return

        def failures() -> list[str]:
            mine = self._not_saved(writer.failure) if writer.failure else ""
            return [mine] if alone else agreement.exchange(mine)

        writer.wait_written()
        heard = failures()
        if any(heard) or (alone and not writer.wait_complete(self._patience())):
            writer.give_up()
        else:
            writer.wait_complete()
            heard = failures()
        self._writer = None
        self._raise_first(heard, writer.failure)
        self._latest = step

    def _patience(self) -> float | None:
        return SECONDS_FOR_OTHERS if jax.process_count() > 1 else None

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

    # --- Going on ---

    def _open(self) -> int | None:
        """Make the directory and clear it of leftovers; the last step in it."""
        self._root.mkdir(parents=True, exist_ok=True)
        for path in self._root.iterdir():
            if path.suffix in (PARTIAL, REMOVED) and path.stem.isdecimal():
                path.rmtree()
        return max(reader.find_all(self._root), default=None)

    def _put_damaged_aside(self) -> tuple[int | None, list[str]]:
        damaged: dict[int, str] = {}
        good = None
        for step in sorted(reader.find_all(self._root), reverse=True):
            reason = checksums.check(self._root / str(step))
            if reason is None:
                good = step
                break
            damaged[step] = reason
        if damaged and good is None:
            reasons = "; ".join(f"step {step}: {reason}" for step, reason in damaged.items())
            raise ValueError(
                f"{self._root}: every checkpoint is damaged ({reasons}); put a good copy of one there, or "
                "begin again in a new directory"
            )
        lines = []
        for step, reason in damaged.items():
            aside = _free_name(self._run / DAMAGED / str(step))
            aside.parent.mkdir(exist_ok=True)
            (self._root / str(step)).rename(aside)
            lines.append(
                f"the checkpoint of step {step} is damaged ({reason}) and now in {aside}; going on from step "
                f"{good}"
            )
        return good, lines


# --- Directories --------------------------------------------------------------------------------------------


def _free_name(path: epath.Path) -> epath.Path:
    """That path, or one with a number behind it that nothing has yet."""
    free, number = path, 1
    while free.exists():
        number += 1
        free = path.parent / f"{path.name}-{number}"
    return free


# --- Several hosts ------------------------------------------------------------------------------------------


def _as_the_first_decides(decide: Callable[[], Any]) -> Any:
    """What the first process decides, something that JSON can hold, or its refusal, in all of them."""
    decision = None
    with agreement.all_or_none():
        if jax.process_index() == 0:
            decision = decide()
    return json.loads(agreement.exchange(json.dumps(decision))[0])
