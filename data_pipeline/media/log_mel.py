"""Kaldi-compatible log-mel spectrograms on the host, and the constants the device version shares.

The features are those of the paper's section 4.1 as its published code makes them, with Kaldi's filterbank
at 128 bins and a 10 ms hop. librosa's own `melspectrogram` is not a substitute: it centres and pads frames,
pre-emphasises the whole signal rather than each frame, and spaces its triangles linearly in Hz, which
moves features by up to 10 in log units. Only its framing serves here.

Used for sound files, figures and as the reference for `hicmae_jax.preprocessing.pretrain`, which makes
the same features inside the training step from int16 samples.
"""

import librosa
import numpy as np

SAMPLE_RATE = 16_000
"""Samples a second."""
INT16_SCALE = 32_768
"""int16 samples are divided by this: waveforms lie in [-1, 1), not on Kaldi's int16 scale."""
WINDOW = 400
"""Samples in a frame: 25 ms."""
HOP = 160
"""Samples from one frame's start to the next's: 10 ms."""
FFT_SIZE = 512
"""Frames are zero-padded to this many samples before the transform."""
MEL_BINS = 128
LOG_MEL_FRAMES = 256
"""Time steps the model sees: 2.56 s."""
LOWEST_HZ = 20.0
HIGHEST_HZ = 8_000.0
PRE_EMPHASIS = 0.97
ENERGY_FLOOR = 1.1920929e-7
"""Energies below float32's epsilon are raised to it before the logarithm."""
MEAN = -4.2677393
STANDARD_DEVIATION = 4.5689974
"""AudioSet's statistics; features are (x - MEAN) / (2 * STANDARD_DEVIATION)."""
PAD_VALUE = -MEAN / (2 * STANDARD_DEVIATION)
"""What a padded time step holds in model units: padding is 0 *before* normalising, so 0.467 after."""


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

    Edges are equally spaced in mel between 20 Hz and 8 kHz; the slopes are linear in mel too, and no filter
    is normalised by its area.
    """
    edges = np.linspace(hz_to_mel(LOWEST_HZ), hz_to_mel(HIGHEST_HZ), MEL_BINS + 2)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    mel = hz_to_mel(np.arange(FFT_SIZE // 2 + 1) * SAMPLE_RATE / FFT_SIZE)[:, None]
    return np.maximum(0.0, np.minimum((mel - left) / (centre - left), (right - mel) / (right - centre)))


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
