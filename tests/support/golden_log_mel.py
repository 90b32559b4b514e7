"""Golden log-mel features of the published code, and the tolerances for others."""

import numpy as np

from data_pipeline.media.log_mel_constants import ENERGY_FLOOR, MEAN, STANDARD_DEVIATION
from tests.goldens import recipe
from tests.support.paths import GOLDENS

LOG_MEL = np.load(GOLDENS / "log_mel.npz")
FLOOR = (np.log(ENERGY_FLOOR) - MEAN) / (2 * STANDARD_DEVIATION)


def golden_waveform(name: str) -> np.ndarray:
    seed, samples = name.split("_samples")
    return (
        np.zeros(int(samples), np.float32)
        if seed == "silence"
        else recipe.waveform(int(seed[4:]), int(samples))
    )


def assert_close_to_golden(features: np.ndarray, golden: np.ndarray):
    tolerance = np.where(golden < FLOOR + 1e-3, 1e-3, 1e-4)
    assert features.shape == golden.shape
    assert (np.abs(features - golden) <= tolerance).all()
