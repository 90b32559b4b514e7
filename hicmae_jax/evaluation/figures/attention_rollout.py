"""Where a model looks: maps of attention over the frames and the spectrogram of a clip."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from hicmae_jax.evaluation.figures import titles

FRAMES_SHOWN = 8
COLOUR_MAP = "inferno"
OPACITY = 0.8  # where the attention is highest; elsewhere in proportion, so that the clip shows


def draw(
    frames: np.ndarray, log_mel: np.ndarray, video_map: np.ndarray, audio_map: np.ndarray, title: str
) -> Figure:
    """Draw frames and spectrogram of a clip, above the same with the maps laid over them.

    Args:
        frames: [T, H, W, 3], uint8 or floats in [0, 1].
        log_mel: float[time, bins].
        video_map: float[slices, rows, columns] of at least 0, one value for each video token; T is a multiple
            of the slices.
        audio_map: float[time patches, frequency patches] of at least 0, one value for each audio token.
        title: of the figure.

    Raises:
        ValueError: shapes do not fit.
    """
    if frames.ndim != 4 or video_map.ndim != 3 or len(frames) % len(video_map):
        raise ValueError(f"frames {frames.shape} do not fit a video map {video_map.shape}")
    if log_mel.ndim != 2 or audio_map.ndim != 2:
        raise ValueError(f"a spectrogram {log_mel.shape} does not fit an audio map {audio_map.shape}")
    count = min(FRAMES_SHOWN, len(frames))
    shown = np.linspace(0, len(frames) - 1, count).round().astype(int)
    figure = Figure(figsize=(1.25 * count + 1.4, 6.4), layout="constrained")
    grid = figure.add_gridspec(4, count, height_ratios=[1, 1, 1.1, 1.1])
    tubelet = len(frames) // len(video_map)
    for column, frame in enumerate(shown):
        plain, covered = (figure.add_subplot(grid[row, column]) for row in (0, 1))
        plain.set_title(f"frame {frame}", fontsize=8)
        for axes in (plain, covered):
            axes.imshow(frames[frame], extent=(0, 1, 0, 1))
        last = _lay_over(covered, video_map[frame // tubelet], video_map)
        if column == 0:
            plain.set_ylabel("clip")
            covered.set_ylabel("attention")
    figure.colorbar(last, ax=figure.axes, label="video: share of the highest", shrink=0.9, pad=0.01)
    sound = [figure.add_subplot(grid[row, :]) for row in (2, 3)]
    for axes, name in zip(sound, ("sound", "attention")):
        axes.imshow(log_mel.T, origin="lower", aspect="auto", extent=(0, 1, 0, 1), cmap="gray")
        axes.set_ylabel(name)
    last = _lay_over(sound[1], audio_map.T[::-1], audio_map)
    sound[1].set_xlabel("time →, frequency ↑")
    figure.colorbar(last, ax=sound, label="audio: share of the highest", shrink=0.9, pad=0.01)
    for axes in figure.axes:
        if axes.images:
            axes.set(xticks=[], yticks=[])
    titles.put(figure, title)
    return figure


def _lay_over(axes: Axes, image: np.ndarray, whole: np.ndarray) -> AxesImage:
    """Lay a map [rows, columns] over the picture of some axes, on the scale of the whole map."""
    share = image / (float(whole.max()) or 1.0)
    return axes.imshow(
        share,
        cmap=COLOUR_MAP,
        vmin=0,
        vmax=1,
        alpha=OPACITY * share,
        extent=(0, 1, 0, 1),
        aspect=axes.get_aspect(),
        interpolation="nearest",
    )
