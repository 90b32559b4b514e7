"""The metrics of a run: a line of JSON for each logged step; optionally also TensorBoard and W&B.

The file `metrics.jsonl` in the run's directory is the record; TensorBoard and W&B get copies. JSON has no NaN
and no infinity, so these are written as the strings "NaN", "Infinity" and "-Infinity", and read back as
numbers.
"""

import contextlib
import json
import math
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from etils import epath

from data_pipeline.common import anywhere, atomic_files
from hicmae_jax.logs.words import REMEDY

FILE = "metrics.jsonl"
TENSORBOARD = "tensorboard"
WANDB_ID = "wandb_id.txt"
_NOT_IN_JSON = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

Values = Mapping[str, float | Sequence[float]]


class MetricsLog:
    """Writes a run's metrics. Use it as a context manager, or call `close`."""

    def __init__(
        self,
        directory: str | os.PathLike[str],
        resume_step: int | None = None,
        tensorboard: bool = False,
        wandb_project: str = "",
        config: Mapping[str, Any] | None = None,
        active: bool = True,
    ) -> None:
        """Open the log, and remove the lines after the step from which the run resumes.

        A killed run leaves lines from after its last checkpoint, and perhaps half a line. The resumed run
        writes these lines again.

        Args:
            directory: directory of the run, on a local or mounted disk.
            resume_step: number of updates made so far; None for a new run, which removes all lines.
            tensorboard: also write TensorBoard's event files, under `tensorboard`.
            wandb_project: also write to this project of Weights & Biases; empty for none.
            config: the run's settings, for Weights & Biases.
            active: true in the first process of a run; in the others, nothing is opened or written.

        Raises:
            RuntimeError: TensorBoard or Weights & Biases is requested but not installed.
            ValueError: the file is damaged.
        """
        self._file = self._tensorboard = self._wandb = None
        if not active:
            return
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        last_step = -1 if resume_step is None else resume_step
        # Open optional packages first: if one is missing, the run ends before any line is removed.
        if tensorboard:
            self._tensorboard = _open_tensorboard(directory, last_step)
        if wandb_project:
            self._wandb = _open_wandb(directory, wandb_project, config)
        _remove_after(directory / FILE, last_step)
        self._file = (directory / FILE).open("a", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def write(self, step: int, values: Values) -> None:
        """Append a line and flush it to the file.

        Args:
            step: number of updates made.
            values: name → number or sequence of numbers. TensorBoard and Weights & Biases get a sequence as
                single values `name/0`, `name/1`, …

        Raises:
            ValueError: a value has more than one dimension, or is named `step`.
            OSError: the line was not written, for example because the disk is full.
        """
        if self._file is None:
            return
        if "step" in values:
            raise ValueError("`step` is the name of the step's number, not of a value")
        numbers = {name: _numbers(name, value) for name, value in values.items()}
        line = {"step": int(step), **{name: _to_json(value) for name, value in numbers.items()}}
        try:
            self._file.write(json.dumps(line, allow_nan=False) + "\n")
            self._file.flush()
        except OSError as error:
            file, self._file = self._file, None
            with contextlib.suppress(OSError):  # `close` tries to write the rest of the line again
                file.close()
            raise OSError(f"{file.name}: step {step:,} was not logged: {error.strerror}; {REMEDY}") from error
        scalars = _scalars(numbers)
        if self._tensorboard:
            for name, value in scalars.items():
                self._tensorboard.add_scalar(name, value, step)
        if self._wandb:
            self._wandb.log({"step": int(step), **scalars})

    def close(self) -> None:
        """Close everything."""
        if self._file:
            self._file.close()
        if self._tensorboard:
            self._tensorboard.close()
        if self._wandb:
            self._wandb.finish()


def read_metrics(directory: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read the lines of a run's log in order, without a last line that is still being written.

    Args:
        directory: directory of the run, on a disk or in a bucket.

    Returns:
        For each line, a dictionary with `step` and the values: numbers or lists of numbers.

    Raises:
        FileNotFoundError: the run has no log.
        ValueError: the file is damaged.
    """
    path = epath.Path(directory) / FILE
    try:
        lines = _lines(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file, so this is not the directory of a run") from None
    return [{name: _from_json(value) for name, value in line.items()} for _, line in lines]


def _lines(path: epath.PathLike) -> list[tuple[str, dict[str, Any]]]:
    """Text and content of each line, without an incomplete last line."""
    found = []
    texts = anywhere.read(path).decode("utf-8", "replace").splitlines()
    for number, text in enumerate(texts, start=1):
        try:
            line = json.loads(text)
            _ = int(line["step"])
        except (ValueError, TypeError, KeyError) as error:
            if number == len(texts):
                break
            raise ValueError(f"{path}: line {number} is not a line of metrics: {text[:60]!r}") from error
        found.append((text, line))
    return found


def _remove_after(path: Path, last_step: int) -> None:
    """Remove the lines after a step; the file is replaced whole or not at all."""
    if not path.exists():
        return
    kept = "".join(f"{text}\n" for text, line in _lines(path) if line["step"] <= last_step)
    atomic_files.replace_text(path, kept)


def _numbers(name: str, value: float | Sequence[float]) -> float | list[float]:
    array = np.asarray(value)
    if array.ndim > 1 or array.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} has shape {array.shape} and type {array.dtype}: not a number or a list of them"
        )
    return array.tolist()


def _to_json(value: float | list[float]) -> Any:
    if isinstance(value, list):
        return [_to_json(one) for one in value]
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_json(one) for one in value]
    return _NOT_IN_JSON[value] if isinstance(value, str) else value


def _scalars(numbers: Mapping[str, float | list[float]]) -> dict[str, float]:
    scalars: dict[str, float] = {}
    for name, value in numbers.items():
        parts = (
            {f"{name}/{i}": one for i, one in enumerate(value)} if isinstance(value, list) else {name: value}
        )
        scalars |= parts
    return scalars


def _open_tensorboard(directory: Path, last_step: int) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ModuleNotFoundError as error:
        raise RuntimeError(
            f"TensorBoard's log needs {error.name}: pip install 'hicmae_jax[tensorboard]'"
        ) from error
    # `purge_step` tells readers to drop what an interrupted run wrote after `last_step`.
    return SummaryWriter(str(directory / TENSORBOARD), purge_step=last_step + 1)


def _open_wandb(directory: Path, project: str, config: Mapping[str, Any] | None) -> Any:
    try:
        import wandb
    except ModuleNotFoundError as error:
        raise RuntimeError(f"Weights & Biases needs {error.name}: pip install 'hicmae_jax[wandb]'") from error
    # A resumed run keeps its id, so Weights & Biases shows one run.
    identity = directory / WANDB_ID
    if not identity.exists():
        identity.write_text(uuid.uuid4().hex, encoding="utf-8")
    run = wandb.init(
        project=project,
        dir=str(directory),
        config=dict(config or {}),
        id=identity.read_text(encoding="utf-8"),
        resume="allow",
    )
    # Log `step` as a metric: the step counter of Weights & Biases refuses to go back to a resumed step.
    run.define_metric("step")
    run.define_metric("*", step_metric="step")
    return run
