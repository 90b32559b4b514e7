"""What changes the sound between a voice and its file: background noise and the recording level."""

import numpy as np

from data_pipeline.synthetic.difficulty import Facts

STEEPEST = 2.0  # the power of the darkest noise falls with frequency to this exponent; 0 is white noise
LOUDEST = 0.98  # of full scale


def record(samples: np.ndarray, facts: Facts, rng: np.random.Generator) -> np.ndarray:
    """Adds background noise to a voice and changes the level of both.

    Args:
        samples: float32 [n] of full scale.
        facts: ratio of speech to noise, and the recording level.
        rng: draws the noise and its colour.

    Returns:
        float32 [n] in (−1, 1).
    """
    spectrum = np.fft.rfft(rng.standard_normal(len(samples)))
    bins = np.maximum(np.arange(len(spectrum)), 1)
    noise = np.fft.irfft(spectrum * bins ** (-rng.uniform(0, STEEPEST) / 2), len(samples))
    speech = np.sqrt(np.mean(np.square(samples, dtype=np.float64)) + 1e-12)
    noise *= speech / noise.std() * 10 ** (-facts.signal_to_noise / 20)
    louder = 10 ** (facts.level / 20) * (samples + noise)
    return (LOUDEST * np.tanh(louder / LOUDEST)).astype(np.float32)
