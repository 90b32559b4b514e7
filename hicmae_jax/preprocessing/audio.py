"""Sound on the device: mean removal, augmentation and Kaldi's log-mel features."""

import jax
import jax.numpy as jnp
import numpy as np

from data_pipeline.media import log_mel_constants as kaldi


def remove_mean(sound: jax.Array, samples: jax.Array) -> jax.Array:
    """Subtract the mean of each clip's true samples, and set the padding to 0.

    Args:
        sound: float32[B, N].
        samples: int32[B], how many of the N are sound.

    Returns:
        float32[B, N].
    """
    real = jnp.arange(sound.shape[1]) < samples[:, None]
    mean = jnp.where(real, sound, 0).sum(-1, keepdims=True) / jnp.maximum(samples[:, None], 1)
    return jnp.where(real, sound - mean, 0)


def draw_gain(key: jax.Array) -> jax.Array:
    """Draw Beta(10, 10) + 0.5, a float32 scalar: the median of 19 uniform draws has exactly Beta(10, 10)."""
    return jnp.sort(jax.random.uniform(key, (19,)))[9] + 0.5


def roll(sound: jax.Array, samples: jax.Array, share: jax.Array) -> jax.Array:
    """Roll the true samples of one clip to the left.

    Args:
        sound: float32[N].
        samples: int32, how many of the N are sound; the padding stays.
        share: by how much, in [0, 1) of the true samples.

    Returns:
        float32[N].
    """
    samples = jnp.maximum(samples, 1)
    index = jnp.arange(len(sound))
    source = (index + (share * samples).astype(jnp.int32)) % samples
    return jnp.where(index < samples, sound[source], sound)


def spectrum_matrix() -> np.ndarray:
    """Matrix of the windowed, zero-padded Fourier transform, float32[400, 2 · 257]: real, then imaginary."""
    angle = 2 * np.pi * np.outer(np.arange(kaldi.WINDOW), np.arange(kaldi.FFT_SIZE // 2 + 1)) / kaldi.FFT_SIZE
    return (np.concatenate([np.cos(angle), -np.sin(angle)], -1) * kaldi.window()[:, None]).astype(np.float32)


def log_mel(sound: jax.Array, samples: jax.Array, frames: int = kaldi.LOG_MEL_FRAMES) -> jax.Array:
    """Make Kaldi's log-mel features of a batch, those of `data_pipeline.media.log_mel.log_mel`.

    Args:
        sound: float32[B, N] in [-1, 1), mean removed, 16 kHz.
        samples: int32[B], how many of the N are sound.
        frames: time steps of the result; longer sound is cut.

    Returns:
        float32[B, frames, 128], `PAD_VALUE` after the end of the sound.
    """
    # A frame is 2.5 hops long: hops i and i + 1, and half of hop i + 2.
    hops = frames + kaldi.WINDOW // kaldi.HOP
    wanted = hops * kaldi.HOP
    sound = jnp.pad(sound[:, :wanted], ((0, 0), (0, max(0, wanted - sound.shape[1]))))
    rows = sound.reshape(-1, hops, kaldi.HOP)
    rest = kaldi.WINDOW % kaldi.HOP
    framed = jnp.concatenate([rows[:, :-2], rows[:, 1:-1], rows[:, 2:, :rest]], -1)
    framed = framed - framed.mean(-1, keepdims=True)
    previous = jnp.concatenate([framed[..., :1], framed[..., :-1]], -1)
    framed = framed - kaldi.PRE_EMPHASIS * previous
    # A quiet bin beside a loud one is a small difference of large terms: it needs full float32 precision.
    spectrum = jnp.dot(framed, spectrum_matrix(), precision=jax.lax.Precision.HIGHEST)
    real, imaginary = jnp.split(spectrum, 2, -1)
    filters = kaldi.mel_filters().astype(np.float32)
    energy = jnp.dot(real**2 + imaginary**2, filters, precision=jax.lax.Precision.HIGHEST)
    features = jnp.log(jnp.maximum(energy, kaldi.ENERGY_FLOOR))
    count = jnp.where(samples < kaldi.WINDOW, 0, 1 + (samples - kaldi.WINDOW) // kaldi.HOP)
    inside = jnp.arange(frames)[None, :, None] < count[:, None, None]
    return (jnp.where(inside, features, 0) - kaldi.MEAN) / (2 * kaldi.STANDARD_DEVIATION)
