"""Pictures of held-out clips as a model in training rebuilds them, a file for each step."""

import contextlib
from collections.abc import Callable
from typing import Any

import jax
from etils import epath

from data_pipeline.reading.fixed_clips import FixedClips
from hicmae_jax.evaluation.batched import BatchedApply, watched_batches
from hicmae_jax.evaluation.figures.reconstructions import draw_reconstructions, reconstruction_rows
from hicmae_jax.evaluation.reconstruction import draw_clips
from hicmae_jax.evaluation.report import masked_shares
from hicmae_jax.model.config import ExecutionConfig
from hicmae_jax.objective.config import LossConfig
from hicmae_jax.preprocessing.pretrain import PreprocessConfig


class Pictures:
    """(parameters, step) → a file `step_000400.png`; it compiles at the first call only.

    Clips and masks are the same at every call. Every process must call it, and one draws.

    Args:
        directory: where to write; made at the first call.
        clips: the clips to draw.
        preprocess: geometry and masks.
        loss: defines the meaning of a prediction.
        draws: whether this process writes the file.
        mesh: devices that hold the parameters; None takes one.
        reading: a context manager to enter while a batch is read, for a watchdog.
        execution: how the model is computed.
    """

    def __init__(
        self,
        directory: epath.Path,
        clips: FixedClips,
        preprocess: PreprocessConfig,
        loss: LossConfig,
        draws: bool = True,
        mesh: jax.sharding.Mesh | None = None,
        reading: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
        execution: ExecutionConfig = ExecutionConfig(),
    ) -> None:
        self._directory = directory
        self._clips = clips
        self._heading = masked_shares(preprocess.masks, preprocess.model)
        self._draws = draws
        self._reading = reading
        self._rebuild = BatchedApply(draw_clips(preprocess, loss, execution), clips.batch, mesh)

    def __call__(self, params: Any, step: int) -> dict[str, float]:
        """Write the picture of these parameters.

        Returns:
            `clips`, the number of clips in it.

        Raises:
            OSError: no clip can be read, or the file cannot be written.
        """
        rebuilt = self._rebuild(params, watched_batches(self._clips, self._reading))
        if self._draws:
            blocks = {self._heading: reconstruction_rows({f"step {step:,}": rebuilt})}
            self._directory.mkdir(parents=True, exist_ok=True)
            figure = draw_reconstructions(blocks, "Held-out clips rebuilt from their visible tokens")
            figure.savefig(self._directory / f"step_{step:06}.png", dpi=80)
        return {"clips": float(len(rebuilt["original"].video))}
