"""Short functions for notebooks and scripts; `import hicmae_jax as hj` offers each as `hj.NAME`.

They cover the common case: one process and the published settings. The functions that they call have more
options.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from data_pipeline.format.clip_sampling import ClipSampling
from data_pipeline.format.host_batch import HostBatch
from data_pipeline.reading.fixed_clips import FixedClips
from hicmae_jax.evaluation.batched import BatchedApply
from hicmae_jax.evaluation.embeddings import embed_clips
from hicmae_jax.model import tokens
from hicmae_jax.model.config import MaskConfig, ModelConfig
from hicmae_jax.model.hicmae import HiCMAE
from hicmae_jax.model.initialise import initial_parameters
from hicmae_jax.model.inputs import ModelInputs
from hicmae_jax.model.sizes import SIZES
from hicmae_jax.objective import pretrain as objective
from hicmae_jax.objective.config import LossConfig
from hicmae_jax.preprocessing.pretrain import PreprocessConfig, preprocess_batch
from hicmae_jax.settings import recipes, schema
from hicmae_jax.settings.pretrain import PretrainSettings, from_config_dict, settings
from hicmae_jax.training import chips

PUBLISHED_GROUP = 40
"""Clips that are each other's negatives in the published run: the batch of one of its GPUs."""

_preprocess = jax.jit(preprocess_batch, static_argnames="config")


def sizes() -> tuple[str, ...]:
    """Names of the model sizes, smallest first; `model_config` takes one."""
    return tuple(SIZES)


def init(config: ModelConfig, seed: int = 0) -> Mapping[str, Any]:
    """Make the parameters that a pre-training run with this seed begins with (paper section 4.1).

    Args:
        config: the model.
        seed: the seed of the run.

    Returns:
        The parameter tree of `HiCMAE(config)`, float32.
    """
    return initial_parameters(config, MaskConfig(), seed)


def read(
    data: epath.PathLike | Sequence[epath.PathLike],
    count: int = 8,
    *,
    frames: int = 16,
    stride: int = 4,
) -> HostBatch[np.ndarray]:
    """Read clips of prepared sets, evenly spaced over the sets, a sample from the middle of each.

    Args:
        data: directory of a prepared set, or several; `hicmae prepare` makes them.
        count: number of clips; all clips if there are fewer.
        frames: T, frames of a sample.
        stride: every how many frames of the clip, of 25 a second.

    Returns:
        Frames uint8[B, T, H, W, 3], audio int16[B, N] at 16 kHz, samples int32[B] and example int32[B], see
        `HostBatch`. B is less than `count` if some clips cannot be read; a warning names each.

    Raises:
        FileNotFoundError: a set is missing or unfinished.
        ValueError: a set has no clip that is long enough, or a number is below 1.
        OSError: none of the clips can be read.
    """
    roots = [data] if isinstance(data, str) or not isinstance(data, Sequence) else data
    (clips,) = FixedClips(roots, ClipSampling(frames, stride), count, count)
    return clips


def preprocess(
    clips: HostBatch[Any],
    config: ModelConfig,
    seed: int = 0,
    *,
    step: int = 0,
    masks: MaskConfig | None = None,
    augment: bool = True,
) -> ModelInputs:
    """Make model inputs of clips: crops, log-mel features, masks (paper sections 3.1.1 and 4.1).

    Args:
        clips: clips from `read`, or a batch of `data_pipeline.reading`.
        config: the model.
        seed: the seed of the run; with the step and the clip it decides every random draw.
        step: the step of the run.
        masks: kinds and ratios of the masks; None for the published ones.
        augment: crop at random and scale the sound, as in training; otherwise take whole frames.

    Returns:
        Video float32[B, T, H, W, 3] in [0, 1], log-mel features float32[B, time, 128], and the masks as token
        indices.

    Raises:
        ValueError: the clips have another number of frames than the model takes.
    """
    options = PreprocessConfig(model=config, masks=masks or MaskConfig())
    made = _preprocess(
        clips, jax.random.key(seed), step, config=options if augment else options.for_evaluation()
    )
    return made._replace(video=tokens.pixels(made.video))


def pretrain_loss(
    model: HiCMAE, params: Mapping[str, Any], inputs: ModelInputs, loss: LossConfig | None = None
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Compute the pre-training loss of a batch (equation 11).

    `jax.value_and_grad(hj.pretrain_loss, argnums=1, has_aux=True)` adds the gradient in the parameters.

    Args:
        model: the model.
        params: its parameters.
        inputs: from `preprocess`, of B clips.
        loss: the choices of the objective. None is the recipe's: contrast within groups of 40 clips, or
            within the batch if that has fewer.

    Returns:
        The loss, a float32 scalar, and its terms by name; `contrastive_levels` is float32[levels].

    Raises:
        ValueError: B is not a multiple of the group.
    """
    if loss is None:
        loss = LossConfig(negatives=f"group:{min(PUBLISHED_GROUP, len(inputs.video))}")
    return objective.pretrain_loss(model, params, inputs, loss)


def embed(
    params: Mapping[str, Any], config: ModelConfig, clips: HostBatch[Any], batch: int = 16
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Compute features of clips with every token visible, without augmentation.

    Clips come from prepared sets (`read`). For video files there is `hicmae embed`.

    Args:
        params: parameters of the pre-training model.
        config: the model.
        clips: B clips, from `read`.
        batch: clips computed at a time.

    Returns:
        For each tapped encoder layer and the last, counted from 1: float32[B, C] of the video and
        float32[B, C] of the audio, the mean over tokens of the layer's normalised output.
    """
    count = len(clips["example"])
    parts = (
        jax.tree.map(lambda array, rows=slice(first, first + batch): array[rows], clips)
        for first in range(0, count, batch)
    )
    return BatchedApply(embed_clips(PreprocessConfig(model=config)), min(batch, count))(params, parts)


def pretrain_settings(
    recipe: str = "pretrain:B", *, data: str | Sequence[str] | Mapping[str, Any] = (), **changes: Any
) -> PretrainSettings:
    """Load a recipe and change some of its settings.

    `hj.pretrain_settings("pretrain:mu,runlocal", data="data/dev", steps=40, loss={"temperature": 0.1})`

    Args:
        recipe: a recipe's name or path and its argument, as for `--config`: `pretrain:B`, `my/recipe.py`.
        data: directories of prepared sets to train on, or changes of the section `data`.
        **changes: settings by name, and the sections as mappings. None unsets a setting.

    Returns:
        Every setting, checked; `as_text()` lists them.

    Raises:
        ValueError: one line: no such recipe or setting, or a value that does not fit.
    """
    if not isinstance(data, Mapping):
        data = {"sets": (data,) if isinstance(data, str) else tuple(data)}
    config = recipes.load(recipe)
    for name, value in schema.flatten({**changes, "data": data}).items():
        _change(config, name, value)
    return from_config_dict(config, chips.platform(jax.devices()[0]))


def _change(config: ConfigDict, name: str, value: Any) -> None:
    known = settings()
    if name not in known:
        raise ValueError(f"there is no setting {name}; the nearest is {schema.nearest(name, known)}")
    try:
        config.update_from_flattened_dict({name: value})
    except TypeError as error:
        raise ValueError(f"{name} = {value!r}: {' '.join(str(error).split())}") from None


def pretrain(settings: PretrainSettings, directory: epath.PathLike) -> None:
    """Pre-train, or resume the run in a directory.

    `hicmae pretrain` does the same, and also handles stop signals and several hosts.

    Args:
        settings: settings from `pretrain_settings`.
        directory: directory of the run: new, empty, or of a run with these settings. `load` reads the result.

    Raises:
        ValueError: settings, data, checkpoint and devices do not fit each other.
        OSError: the directory cannot be written, or no clip can be read.
    """
    from hicmae_jax.runs import pretrain as runs  # loads checkpoints and logs, which the others do not need

    runs.run(settings, directory)
