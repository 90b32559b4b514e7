"""Constants of Kaldi's log-mel features: framing, window, mel filters, normalisation.

The host's features (`data_pipeline.media.log_mel`) and the device's (`hicmae_jax.preprocessing.audio`) share
them. This module imports only NumPy.
"""

import numpy as np

SAMPLE_RATE = 16_000
"""Samples a second."""
INT16_SCALE = 32_768
"""int16 samples are divided by this: waveforms lie in [-1, 1), not on Kaldi's int16 scale."""
WINDOW = 400
"""Samples in a frame: 25 ms."""
HOP = 160
"""Samples from the start of one frame to the start of the next: 10 ms."""
FFT_SIZE = 512
"""Frames are zero-padded to this many samples before the transform."""
MEL_BINS = 128
LOG_MEL_FRAMES = 256
"""Time steps that the model sees: 2.56 s."""
LOWEST_HZ = 20.0
HIGHEST_HZ = 8_000.0
PRE_EMPHASIS = 0.97
ENERGY_FLOOR = 1.1920929e-7
"""Smaller energies are raised to this value, the epsilon of float32, before the logarithm."""
MEAN = -4.2677393
STANDARD_DEVIATION = 4.5689974
"""AudioSet's statistics; features are (x - MEAN) / (2 * STANDARD_DEVIATION)."""
PAD_VALUE = -MEAN / (2 * STANDARD_DEVIATION)
"""Value of a padded time step: padding is 0 *before* normalising, so 0.467 after it."""


def frame_count(samples: int) -> int:
    """Number of whole frames in `samples` samples; there is no padding at the edges."""
    return 0 if samples < WINDOW else 1 + (samples - WINDOW) // HOP


def window() -> np.ndarray:
    """Symmetric Hann window, float64[400]."""
    return np.hanning(WINDOW)


def hz_to_mel(hz: np.ndarray | float) -> np.ndarray:
    """Kaldi's mel scale, 1127 ln(1 + f / 700)."""
    return 1127.0 * np.log1p(np.asarray(hz, np.float64) / 700.0)


def mel_filters() -> np.ndarray:
    """Kaldi's triangular filters, float64[257, 128]: power spectrum bins to mel bins.

    Edges are equally spaced in mel between 20 Hz and 8 kHz. The slopes are linear in mel too. No filter is
    normalised by its area.
    """
    edges = np.linspace(hz_to_mel(LOWEST_HZ), hz_to_mel(HIGHEST_HZ), MEL_BINS + 2)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    mel = hz_to_mel(np.arange(FFT_SIZE // 2 + 1) * SAMPLE_RATE / FFT_SIZE)[:, None]
    return np.maximum(0.0, np.minimum((mel - left) / (centre - left), (right - mel) / (right - centre)))
