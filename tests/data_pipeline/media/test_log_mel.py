import kaldi_native_fbank
import numpy as np
import pytest

from data_pipeline.media import log_mel
from tests.goldens import recipe
from tests.support.paths import GOLDENS

LOG_MEL = np.load(GOLDENS / "log_mel.npz")
FLOOR = (np.log(log_mel.ENERGY_FLOOR) - log_mel.MEAN) / (2 * log_mel.STANDARD_DEVIATION)


def golden_waveform(name: str) -> np.ndarray:
    seed, samples = name.split("_samples")
    return (
        np.zeros(int(samples), np.float32)
        if seed == "silence"
        else recipe.waveform(int(seed[4:]), int(samples))
    )


def kaldi_log_mel(waveform: np.ndarray) -> np.ndarray:
    """The same features by an independent C++ implementation."""
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.samp_freq = log_mel.SAMPLE_RATE
    options.frame_opts.dither = 0
    options.frame_opts.window_type = "hanning"
    options.mel_opts.num_bins = log_mel.MEL_BINS
    options.use_energy = False
    fbank = kaldi_native_fbank.OnlineFbank(options)
    fbank.accept_waveform(log_mel.SAMPLE_RATE, (waveform - waveform.mean()).tolist())
    fbank.input_finished()
    return np.stack([fbank.get_frame(i) for i in range(fbank.num_frames_ready)])


def assert_close_to_golden(features: np.ndarray, golden: np.ndarray):
    tolerance = np.where(golden < FLOOR + 1e-3, 1e-3, 1e-4)
    assert features.shape == golden.shape
    assert (np.abs(features - golden) <= tolerance).all()


@pytest.mark.parametrize("name", list(LOG_MEL))
def test_published_features(name):
    assert_close_to_golden(log_mel.log_mel(golden_waveform(name)), LOG_MEL[name])


@pytest.mark.parametrize("samples", [400, 559, 560, 1_025, 20_000, 41_599, 41_600])
def test_agrees_with_kaldi(samples):
    waveform = recipe.waveform(samples, samples)
    ours, theirs = log_mel.raw_log_mel(waveform), kaldi_log_mel(waveform)
    assert ours.shape == theirs.shape == (log_mel.frame_count(samples), log_mel.MEL_BINS)
    np.testing.assert_allclose(ours, theirs, atol=1e-3)  # Kaldi computes in float32


def test_what_lies_beyond_the_sound_is_ignored():
    waveform = recipe.waveform(1, 30_000)
    padded = np.concatenate([waveform, np.full(11_600, 0.7, np.float32)])
    np.testing.assert_array_equal(log_mel.log_mel(padded, 30_000), log_mel.log_mel(waveform))


@pytest.mark.parametrize("samples", [0, 399, 400, 20_000])
def test_padding_is_zero_before_normalising(samples):
    features = log_mel.log_mel(recipe.waveform(2, samples))
    count = log_mel.frame_count(samples)
    np.testing.assert_allclose(features[count:], log_mel.PAD_VALUE, rtol=1e-6)
    assert pytest.approx(0.467, abs=1e-4) == log_mel.PAD_VALUE
    assert not np.isclose(features[:count], log_mel.PAD_VALUE).all(-1).any()


def test_long_sound_is_cut_after_the_filterbank():
    waveform = recipe.waveform(3, 80_000)
    whole = log_mel.log_mel(waveform, frames=None)
    assert len(whole) == log_mel.frame_count(80_000) > log_mel.LOG_MEL_FRAMES
    np.testing.assert_array_equal(log_mel.log_mel(waveform), whole[: log_mel.LOG_MEL_FRAMES])


def test_int16_means_the_same_as_its_floats():
    pcm = np.round(recipe.waveform(4, 41_600) * log_mel.INT16_SCALE).clip(-32_768, 32_767).astype(np.int16)
    np.testing.assert_array_equal(
        log_mel.log_mel(pcm), log_mel.log_mel(pcm / np.float32(log_mel.INT16_SCALE))
    )


@pytest.mark.parametrize(("shape", "samples"), [((2, 400), None), ((400,), 401), ((400,), -1)])
def test_wrong_waveforms_are_refused(shape, samples):
    with pytest.raises(ValueError, match=r"mono sound|not in 0 … 400"):
        log_mel.log_mel(np.zeros(shape, np.float32), samples)
