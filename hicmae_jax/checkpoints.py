"""Checkpoints of a run: the whole train state, and a record of what the run is.

::

    <run>/checkpoints/<step>/state     step, parameters, optimiser state (Orbax, one array a leaf)
    <run>/checkpoints/<step>/record    JSON: {"config": …, "versions": …, "data": {directory: fingerprint}}

A checkpoint is written under another name in the background and renamed when it is complete, so that a step
which is listed is whole; what a killed save leaves is cleared away when the run goes on. Any number of
devices and hosts can read it, whatever number wrote it.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Self

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

DIRECTORY = "checkpoints"
STATE, RECORD = "state", "record"
# Parameters are read on their own, by this name of the train state's field.
PARAMETERS = "params"
_STEP_NAMES = ocp.path.step.standard_name_format()

Record = Mapping[str, Any]


class Checkpoints:
    """The checkpoints of a run that is being trained; every process makes one and calls it alike.

    Use it as a context manager, or call `close`: the process must not end before the last save has.
    """

    def __init__(self, run: epath.PathLike, keep: int = 3, milestone: int | None = None) -> None:
        """Open the checkpoints of a run, and remove what interrupted saves have left.

        Args:
            run: the run's directory, made where it is missing; local, or of a file system that Orbax knows.
            keep: how many of the last checkpoints to keep.
            milestone: steps divisible by it are kept for good; None for none.

        Raises:
            ValueError: `keep` or `milestone` below 1.
            OSError: the directory cannot be made or read.
        """
        if keep < 1 or (milestone is not None and milestone < 1):
            raise ValueError(f"keep = {keep} and milestone = {milestone} must be at least 1")
        self._root = _absolute(run) / DIRECTORY
        self._step_being_saved: int | None = None
        options = ocp.CheckpointManagerOptions(
            preservation_policy=_preservation(keep, milestone),
            step_name_format=_STEP_NAMES,
        )
        if jax.process_index() == 0:
            # Orbax does it in a thread, which ends in a traceback if the run is refused at once.
            for left in ocp.path.step.all_temporary_paths(self._root):
                left.get().rmtree()
        self._manager = ocp.CheckpointManager(self._root, options=options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def latest_step(self) -> int | None:
        """Last step saved or being saved, None if there is none."""
        return self._manager.latest_step()

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
        latest = self.latest_step()
        if latest is not None and latest >= step:
            raise ValueError(
                f"{self._root}: step {step} cannot be saved, because there is a checkpoint of step {latest}"
            )
        self._step_being_saved = step
        items = {STATE: ocp.args.StandardSave(state), RECORD: ocp.args.JsonSave(record)}
        with self._failure_named():
            # Forced: the caller alone decides when to save.
            self._manager.save(step, args=ocp.args.Composite(**items), force=True)

    def restore(self, abstract_state: Any, step: int | None = None) -> Any:
        """Read a state, bit for bit, onto the devices and with the shardings that are asked for.

        Args:
            abstract_state: tree of `jax.ShapeDtypeStruct` with shardings, of any mesh.
            step: which checkpoint; None for the last.

        Returns:
            A tree of that structure, of `jax.Array`.

        Raises:
            FileNotFoundError: no such checkpoint.
            ValueError: the checkpoint holds other arrays, or is damaged.
        """
        self.wait()
        path = _checkpoint(self._root, step)
        _check_same_arrays(path, _read_shapes(path), abstract_state)
        return _read(path, STATE, ocp.args.StandardRestore(abstract_state))

    def read_record(self, step: int | None = None) -> dict[str, Any]:
        """Read what the run was when it saved.

        Args:
            step: which checkpoint; None for the last.

        Raises:
            FileNotFoundError: no such checkpoint.
            ValueError: it is damaged.
        """
        self.wait()
        return _read(_checkpoint(self._root, step), RECORD, ocp.args.JsonRestore())

    def wait(self) -> None:
        """Wait until the save in progress is complete, and old checkpoints are removed.

        Raises:
            RuntimeError: the save has failed.
        """
        with self._failure_named():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Wait, and end the background threads.

        Raises:
            RuntimeError: the last save has failed.
        """
        try:
            self.wait()
        finally:
            self._manager.close()

    @contextlib.contextmanager
    def _failure_named(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise RuntimeError(
                f"{self._root}: the checkpoint of step {self._step_being_saved} was not saved: "
                f"{_in_one_line(error)}"
            ) from error


def load_parameters(directory: epath.PathLike, step: int | None = None) -> tuple[Any, dict[str, Any]]:
    """Read the parameters of a run without its optimiser state, on any machine.

    Safe beside a run that is still training: nothing is written or removed. In a run of several processes
    all of them call it.

    Args:
        directory: a run's directory, or its `checkpoints`.
        step: which checkpoint; None for the last.

    Returns:
        The parameter tree, NumPy arrays as they were saved (encoders that are scanned hold stacked layers),
        and the checkpoint's record.

    Raises:
        FileNotFoundError: the directory is not a run's, or has no such checkpoint.
        ValueError: the checkpoint is damaged, or holds no parameters.
    """
    path = _checkpoint(_root(directory), step)
    record = _read(path, RECORD, ocp.args.JsonRestore())
    shapes = _read_shapes(path)
    if PARAMETERS not in shapes:
        raise ValueError(f"{path}: the checkpoint holds no `{PARAMETERS}`, only {', '.join(shapes)}")
    wanted = {PARAMETERS: shapes[PARAMETERS]}
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
    arguments = ocp.args.PyTreeRestore(item=wanted, restore_args=as_numpy, partial_restore=True)
    return _read(path, STATE, arguments)[PARAMETERS], record


def find_step(directory: epath.PathLike, step: int | None = None) -> int:
    """The step of the checkpoint that `load_parameters` reads for the same arguments.

    Raises:
        FileNotFoundError: the directory is not a run's, or has no such checkpoint.
    """
    return int(_checkpoint(_root(directory), step).name)


def _root(directory: epath.PathLike) -> epath.Path:
    """The checkpoints of a run that is named by its directory, or by them."""
    root = _absolute(directory)
    return root / DIRECTORY if (root / DIRECTORY).exists() else root


def _preservation(keep: int, milestone: int | None) -> ocp.checkpoint_managers.PreservationPolicy:
    """Which checkpoints stay when a new one is complete; every other one is removed."""
    policies = [ocp.checkpoint_managers.LatestN(keep)]
    if milestone is not None:
        policies.append(ocp.checkpoint_managers.EveryNSteps(milestone))
    return ocp.checkpoint_managers.AnyPreservationPolicy(policies)


def _absolute(directory: epath.PathLike) -> epath.Path:
    path = epath.Path(directory)
    # Orbax refuses relative paths; a bucket's, gs://…, is absolute, and resolving would spoil it.
    return path if path.is_absolute() else path.resolve()


def _checkpoint(root: epath.Path, step: int | None) -> epath.Path:
    """Directory of a checkpoint that is complete."""
    if not root.exists():
        raise FileNotFoundError(f"{root}: no such directory")
    found = {entry.step: entry.path for entry in _STEP_NAMES.find_all(root)}
    if not found:
        names = sorted(entry.name for entry in root.iterdir()) or ["nothing"]
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        raise FileNotFoundError(f"{root} holds no complete checkpoint, only {', '.join(names[:8])}{more}")
    step = max(found) if step is None else step
    if step not in found:
        steps = ", ".join(map(str, sorted(found)))
        raise FileNotFoundError(f"{root} holds no checkpoint of step {step}; it holds those of {steps}")
    return found[step]


@contextlib.contextmanager
def _damage_named(path: epath.Path) -> Iterator[None]:
    try:
        yield
    # Damaged files make Orbax and TensorStore raise nearly anything.
    except Exception as error:
        raise ValueError(
            f"{path}: the checkpoint of step {path.name} is damaged or cannot be read, move it away to use "
            f"another: {_in_one_line(error)}"
        ) from error


def _read(path: epath.Path, item: str, arguments: ocp.args.CheckpointArgs) -> Any:
    composite = ocp.args.Composite(**{item: arguments})
    with _damage_named(path), ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
        return reader.restore(path, args=composite)[item]


def _read_shapes(path: epath.Path) -> Mapping[str, Any]:
    """The saved state's tree, nested dictionaries and lists, of what has a shape and a dtype."""
    with _damage_named(path), contextlib.closing(ocp.PyTreeCheckpointHandler()) as handler:
        return handler.metadata(path / STATE).tree


def _check_same_arrays(path: epath.Path, saved: Mapping[str, Any], wanted: Any) -> None:
    """Refuse a state of other arrays, which Orbax would describe in pages, or fill up."""

    def arrays(tree: Any) -> dict[str, str]:
        flat = ocp.tree.to_flat_dict(tree, sep="/")
        return {
            name: f"{np.dtype(leaf.dtype)}{list(leaf.shape)}"
            for name, leaf in flat.items()
            if leaf is not None
        }

    inside, asked = arrays(saved), arrays(wanted)
    problems = [
        *(f"{name} is missing" for name in asked if name not in inside),
        *(f"{name} has no place in this run" for name in inside if name not in asked),
        *(
            f"{name} is {inside[name]}, not {asked[name]}"
            for name in asked
            if inside.get(name, asked[name]) != asked[name]
        ),
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ValueError(f"{path}: the checkpoint does not fit: {'; '.join(problems[:3])}{more}")


def _in_one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
