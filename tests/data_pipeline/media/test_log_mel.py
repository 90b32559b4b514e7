import kaldi_native_fbank
import numpy as np
import pytest

from data_pipeline.media import log_mel
from data_pipeline.media import log_mel_constants as kaldi
from tests.goldens import recipe
from tests.support.golden_log_mel import LOG_MEL, assert_close_to_golden, golden_waveform


def kaldi_log_mel(waveform: np.ndarray) -> np.ndarray:
    """The same features from an independent C++ implementation."""
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.samp_freq = kaldi.SAMPLE_RATE
    options.frame_opts.dither = 0
    options.frame_opts.window_type = "hanning"
    options.mel_opts.num_bins = kaldi.MEL_BINS
    options.use_energy = False
    fbank = kaldi_native_fbank.OnlineFbank(options)
    fbank.accept_waveform(kaldi.SAMPLE_RATE, (waveform - waveform.mean()).tolist())
    fbank.input_finished()
    return np.stack([fbank.get_frame(i) for i in range(fbank.num_frames_ready)])


@pytest.mark.parametrize("name", list(LOG_MEL))
def test_published_features(name):
    assert_close_to_golden(log_mel.log_mel(golden_waveform(name)), LOG_MEL[name])


@pytest.mark.parametrize("samples", [400, 559, 560, 1_025, 20_000, 41_599, 41_600])
def test_agrees_with_kaldi(samples):
    waveform = recipe.waveform(samples, samples)
    ours, theirs = log_mel.raw_log_mel(waveform), kaldi_log_mel(waveform)
    assert ours.shape == theirs.shape == (kaldi.frame_count(samples), kaldi.MEL_BINS)
    np.testing.assert_allclose(ours, theirs, atol=1e-3)  # Kaldi computes in float32


def test_padding_after_the_sound_is_ignored():
    waveform = recipe.waveform(1, 30_000)
    padded = np.concatenate([waveform, np.full(11_600, 0.7, np.float32)])
    np.testing.assert_array_equal(log_mel.log_mel(padded, 30_000), log_mel.log_mel(waveform))


@pytest.mark.parametrize("samples", [0, 399, 400, 20_000])
def test_padding_is_zero_before_normalising(samples):
    features = log_mel.log_mel(recipe.waveform(2, samples))
    count = kaldi.frame_count(samples)
    np.testing.assert_allclose(features[count:], kaldi.PAD_VALUE, rtol=1e-6)
    assert pytest.approx(0.467, abs=1e-4) == kaldi.PAD_VALUE
    assert not np.isclose(features[:count], kaldi.PAD_VALUE).all(-1).any()


def test_long_sound_is_cut_after_the_filterbank():
    waveform = recipe.waveform(3, 80_000)
    whole = log_mel.log_mel(waveform, frames=None)
    assert len(whole) == kaldi.frame_count(80_000) > kaldi.LOG_MEL_FRAMES
    np.testing.assert_array_equal(log_mel.log_mel(waveform), whole[: kaldi.LOG_MEL_FRAMES])


def test_int16_and_float_sound_give_the_same_features():
    pcm = np.round(recipe.waveform(4, 41_600) * kaldi.INT16_SCALE).clip(-32_768, 32_767).astype(np.int16)
    np.testing.assert_array_equal(log_mel.log_mel(pcm), log_mel.log_mel(pcm / np.float32(kaldi.INT16_SCALE)))


@pytest.mark.parametrize(("shape", "samples"), [((2, 400), None), ((400,), 401), ((400,), -1)])
def test_wrong_waveforms_are_refused(shape, samples):
    with pytest.raises(ValueError, match=r"mono sound|not in 0 … 400"):
        log_mel.log_mel(np.zeros(shape, np.float32), samples)
