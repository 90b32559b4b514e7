"""Kaldi-compatible log-mel spectrograms on the host.

The features are those of the paper's section 4.1 as its published code makes them: Kaldi's filterbank with
128 bins and a 10 ms hop. librosa's own `melspectrogram` differs by up to 10 in log units: it centres and pads
frames, pre-emphasises the whole signal instead of each frame, and spaces its triangles linearly in Hz. Only
librosa's framing is used here.

`hicmae_jax.preprocessing.audio` makes the same features inside the training step from int16 samples. This
module serves sound files and figures, and is the reference for that one in tests.
"""

import librosa
import numpy as np

from data_pipeline.media.log_mel_constants import (
    ENERGY_FLOOR,
    FFT_SIZE,
    HOP,
    INT16_SCALE,
    LOG_MEL_FRAMES,
    MEAN,
    MEL_BINS,
    PRE_EMPHASIS,
    STANDARD_DEVIATION,
    WINDOW,
    mel_filters,
    window,
)


def raw_log_mel(waveform: np.ndarray, samples: int | None = None) -> np.ndarray:
    """Log-mel energies before padding and normalising.

    Args:
        waveform: float[N] in [-1, 1), or int16[N], 16 kHz mono.
        samples: how many of the N are sound (the rest is padding and ignored); None for all.

    Returns:
        float32[frames, 128] with `frame_count(samples)` rows, none for a waveform under 400 samples.

    Raises:
        ValueError: the waveform is not one-dimensional, or `samples` is not in 0 … N.
    """
    if np.ndim(waveform) != 1:
        raise ValueError(f"waveform has shape {np.shape(waveform)}; expected mono sound [samples]")
    samples = len(waveform) if samples is None else samples
    if not 0 <= samples <= len(waveform):
        raise ValueError(f"sample count {samples} is not in 0 … {len(waveform)}, the waveform's length")
    scale = INT16_SCALE if waveform.dtype == np.int16 else 1
    sound = np.asarray(waveform[:samples], np.float64) / scale
    if samples < WINDOW:
        return np.zeros((0, MEL_BINS), np.float32)
    frames = librosa.util.frame(sound - sound.mean(), frame_length=WINDOW, hop_length=HOP, axis=0)
    frames = frames - frames.mean(-1, keepdims=True)
    # A frame's first sample has no predecessor of its own frame: it stands in for it.
    previous = np.concatenate([frames[:, :1], frames[:, :-1]], -1)
    frames = (frames - PRE_EMPHASIS * previous) * window()
    power = np.abs(np.fft.rfft(frames, FFT_SIZE)) ** 2
    return np.log(np.maximum(power @ mel_filters(), ENERGY_FLOOR)).astype(np.float32)


def log_mel(
    waveform: np.ndarray, samples: int | None = None, frames: int | None = LOG_MEL_FRAMES
) -> np.ndarray:
    """Normalised log-mel features as the model sees them.

    Args:
        waveform: see `raw_log_mel`.
        samples: see `raw_log_mel`.
        frames: time steps to pad or cut to; None keeps the sound's own number.

    Returns:
        float32[frames, 128], `PAD_VALUE` where the sound has ended.

    Raises:
        ValueError: see `raw_log_mel`.
    """
    raw = raw_log_mel(waveform, samples)
    if frames is not None:
        raw = np.pad(raw[:frames], ((0, max(0, frames - len(raw))), (0, 0)))
    return (raw - np.float32(MEAN)) / np.float32(2 * STANDARD_DEVIATION)
