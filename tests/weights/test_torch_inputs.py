"""The PyTorch file's log-mel features and resized frames are those of the goldens and of Pillow."""

import numpy as np
import pytest
import torch
from PIL import Image

from data_pipeline.media import log_mel as on_host
from data_pipeline.media import log_mel_constants as kaldi
from hicmae_jax.weights import torch_model
from tests.goldens import recipe
from tests.support import tiny_model
from tests.support.golden_log_mel import LOG_MEL, assert_close_to_golden, golden_waveform
from tests.support.golden_torch import config_of
from tests.support.paths import GOLDENS

TINY = config_of(tiny_model.model_config(audio_bins=128))


@pytest.mark.parametrize("name", sorted(LOG_MEL.files))
def test_golden_log_mel(name):
    waveform = torch.from_numpy(golden_waveform(name))[None]
    assert_close_to_golden(torch_model.log_mel(waveform)[0].numpy(), LOG_MEL[name])


@pytest.mark.parametrize("samples", [0, 399, 400, 5_000, 41_600, 60_000])
def test_log_mel_is_that_of_the_host(samples):
    sound = np.random.default_rng(samples).integers(-9_000, 9_000, (2, samples)).astype(np.int16)
    found = torch_model.log_mel(torch.from_numpy(sound))
    assert (found.shape, found.dtype) == ((2, 256, 128), torch.float32)
    for ours, waveform in zip(found.numpy(), sound):
        np.testing.assert_allclose(ours, on_host.log_mel(waveform), atol=1e-5)
    as_floats = torch_model.log_mel(torch.from_numpy(sound / np.float32(32_768)))
    torch.testing.assert_close(as_floats, found, rtol=0, atol=1e-5)


def test_the_constants_are_those_of_the_host():
    names = ("SAMPLE_RATE", "WINDOW", "HOP", "FFT_SIZE", "LOWEST_HZ", "HIGHEST_HZ", "PRE_EMPHASIS")
    for name in (*names, "ENERGY_FLOOR"):
        assert getattr(torch_model, name) == getattr(kaldi, name)
    assert (torch_model.LOG_MEL_MEAN, torch_model.LOG_MEL_STD) == (kaldi.MEAN, kaldi.STANDARD_DEVIATION)
    np.testing.assert_allclose(torch_model.mel_filters(128), kaldi.mel_filters(), atol=1e-9)


@pytest.mark.parametrize(
    "wrong", [torch.zeros(500), torch.zeros(1, 2, 500), torch.zeros(1, 500, dtype=torch.int32)]
)
def test_other_waveforms_are_refused(wrong):
    with pytest.raises(
        ValueError, match=r"expected \[B, samples\], floats in \[-1, 1\) or int16, 16 kHz mono"
    ):
        torch_model.log_mel(wrong)


def test_golden_crops_resize_to_pillows_bytes():
    golden = np.load(GOLDENS / "crop_resize.npz")
    frames = torch.from_numpy(recipe.video(31, 1, 2, 160))
    for (x, y, width, height), expected in zip(golden["boxes"].tolist(), golden["resized"]):
        found = torch_model.resize(frames[:, :, y : y + height, x : x + width], 160)[0]
        difference = np.abs(found.numpy().astype(int) - expected)
        assert difference.max() <= 1
        assert difference.mean() <= 0.02


@pytest.mark.parametrize("size", [(160, 160), (90, 200), (224, 224), (480, 360)])
def test_resized_frames_are_pillows(size):
    frame = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    found = torch_model.resize(torch.from_numpy(frame)[None, None], 96)[0, 0].numpy()
    expected = np.asarray(Image.fromarray(frame).resize((96, 96), Image.Resampling.BILINEAR))
    difference = np.abs(found.astype(int) - expected)
    assert difference.max() <= 1
    assert difference.mean() <= 0.1  # halves, which Pillow rounds the other way


def test_preprocess_makes_the_inputs_of_the_model():
    model = torch_model.PretrainModel(TINY)
    frames = torch.randint(0, 256, (2, 4, 50, 40, 3), dtype=torch.uint8)
    video, log_mel = model.preprocess(frames, torch.zeros(2, 3_000))
    assert (video.shape, video.dtype) == ((2, 4, 32, 32, 3), torch.uint8)
    assert log_mel.shape == (2, 32, 128)
    assert model.preprocess(frames, None)[1] is model.preprocess(None, torch.zeros(2, 3_000))[0] is None
    with pytest.raises(ValueError, match=r"this model takes \[B, 4, height, width, 3\]"):
        model.preprocess(frames[:, :3], None)
    with pytest.raises(ValueError, match=r"expected uint8 \[B, T, height, width, 3\], RGB"):
        model.preprocess(frames.float(), None)
    with pytest.raises(ValueError, match=r"expected uint8 \[B, T, height, width, 3\], RGB"):
        model.preprocess(frames[..., :1], None)
