"""A figure of samples as the model sees them: cropped frames and normalised log-mel spectrograms."""

from collections.abc import Sequence

import jax
import numpy as np
from absl import logging
from matplotlib.figure import Figure

from data_pipeline.format.clip_sampling import ClipSampling
from data_pipeline.media.log_mel_constants import LOG_MEL_FRAMES
from data_pipeline.reading.fixed_clips import read_clips
from data_pipeline.reading.requests import ClipRequest
from data_pipeline.reading.sources import ClipSource
from hicmae_jax.model.inputs import ModelInputs
from hicmae_jax.preprocessing.pretrain import PreprocessConfig, preprocess_batch

FRAMES_SHOWN = 8  # every second one of a sample's 16


def draw_samples(roots: Sequence[str], count: int, seed: int) -> tuple[list[str], ModelInputs]:
    """Read random samples from prepared sets and preprocess them as in training.

    Args:
        roots: directories of prepared sets.
        count: number of samples; fewer if the sets have fewer clips or some cannot be read.
        seed: decides clips, start times and augmentation.

    Returns:
        Names of the clips, and model inputs of as many samples.

    Raises:
        FileNotFoundError: a set is missing or unfinished.
        ValueError: see `ClipSource`; or none of the chosen clips can be read.
    """
    config = PreprocessConfig()
    source = ClipSource(roots, ClipSampling(frames=config.model.frames))
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(source), min(count, len(source)), replace=False)
    batch, broken = read_clips(source, [ClipRequest(int(i), float(rng.random())) for i in chosen])
    for line in broken.values():
        logging.warning("Leaving out an unreadable clip: %s", line)
    if not len(batch["example"]):
        raise ValueError(f"{', '.join(roots)}: none of {len(chosen)} clips drawn can be read")
    names = [source.name(int(example)).rpartition(" (clip ")[0] for example in batch["example"]]
    make = jax.jit(preprocess_batch, static_argnums=3)
    return names, jax.device_get(make(batch, jax.random.key(seed), 0, config))


def draw_sheet(names: Sequence[str], inputs: ModelInputs) -> Figure:
    """Draw one row for each sample: every second frame, then the log-mel spectrogram (time to the right)."""
    figure = Figure(figsize=(18, 1.65 * len(names) + 0.5), layout="constrained")
    widths = [1] * FRAMES_SHOWN + [3.2]
    axes = figure.subplots(len(names), FRAMES_SHOWN + 1, width_ratios=widths, squeeze=False)
    step = inputs.video.shape[1] // FRAMES_SHOWN
    for row, (name, video, log_mel) in enumerate(zip(names, inputs.video, inputs.log_mel, strict=True)):
        for column in range(FRAMES_SHOWN):
            axes[row, column].imshow(video[column * step], interpolation="nearest")
            axes[row, column].set_axis_off()
        axes[row, 0].set_title(name, fontsize=9, loc="left")
        image = axes[row, -1].imshow(
            log_mel.T,
            origin="lower",
            aspect="auto",
            vmin=-1.5,
            vmax=1.5,
            extent=(0, LOG_MEL_FRAMES / 100, 0, 128),
        )
        axes[row, -1].set_ylabel("mel bin", fontsize=8)
        axes[row, -1].tick_params(labelsize=7)
    axes[-1, -1].set_xlabel("seconds", fontsize=8)
    figure.colorbar(image, ax=axes[:, -1].tolist(), label="log-mel, normalised", fraction=0.03)
    return figure
