"""Windows of any modality get the numbers that the models give for the same inputs."""

import jax
import numpy as np
import pytest

from data_pipeline.format.host_batch import HostBatch
from data_pipeline.media.windows import Window
from hicmae_jax.evaluation.window_model import WindowModel
from hicmae_jax.model.config import FinetuneConfig
from hicmae_jax.model.finetune import HiCMAEFinetune
from hicmae_jax.model.initialise import finetune_initialiser
from hicmae_jax.preprocessing.finetune import FinetunePreprocessConfig, preprocess_clips
from hicmae_jax.preprocessing.missing import hide
from hicmae_jax.weights.trained import Trained
from tests.support import tiny_model

MODEL = tiny_model.model_config(audio_bins=128)
LABELS = ("angry", "calm", "sad")
SAMPLES = 5_120


def trained(modality="audio-visual", regression=False):
    finetune = FinetuneConfig(outputs=3, modality=modality)
    shapes = jax.eval_shape(finetune_initialiser(MODEL, finetune), jax.random.key(0))
    params = jax.device_get(tiny_model.random_like(shapes, 1))
    return Trained(params, MODEL, finetune, LABELS, regression, 2, "tiny")


def pretrained():
    return Trained(jax.device_get(tiny_model.parameters(MODEL)), MODEL, None, (), False, 2, "tiny")


def window(seed, picture=True, sound=True):
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (4, 32, 32, 3), np.uint8)
    samples = rng.integers(-9_000, 9_000, SAMPLES, np.int16)
    return Window(seed / 5, seed / 5 + 0.32, 0, frames if picture else None, samples if sound else None)


def clips(windows):
    audio = np.stack(
        [each.sound if each.sound is not None else np.zeros(SAMPLES, np.int16) for each in windows]
    )
    blank = np.zeros((4, 32, 32, 3), np.uint8)
    frames = np.stack([each.frames if each.frames is not None else blank for each in windows])
    samples = np.array([0 if each.sound is None else SAMPLES for each in windows], np.int32)
    return HostBatch(frames=frames, audio=audio, samples=samples, example=np.arange(len(windows)))


def expected_logits(model, windows, missing=None):
    settings = FinetunePreprocessConfig(model=MODEL).for_evaluation()
    video, log_mel = preprocess_clips(clips(windows), jax.random.key(0), 0, settings)
    hidden = [np.full(len(windows), missing == name) for name in ("video", "audio")]
    output = HiCMAEFinetune(MODEL, model.finetune).apply(
        {"params": model.params}, *hide(video, log_mel, *hidden)
    )
    return np.asarray(output.logits)


@pytest.mark.parametrize("missing", [None, "video", "audio"])
def test_scores_are_those_of_the_model_and_do_not_depend_on_the_batch(missing):
    model = trained()
    windows = [window(seed, missing != "video", missing != "audio") for seed in range(5)]
    found = WindowModel(model, batch=4)(windows)
    expected = jax.nn.softmax(expected_logits(model, windows, missing))
    np.testing.assert_allclose(found["scores"], expected, atol=1e-6)
    assert found["feature"].shape == (5, 4 * MODEL.encoder_dim)
    alone = WindowModel(model, batch=1)(windows[4:])
    np.testing.assert_allclose(alone["scores"], found["scores"][4:], atol=1e-6)


def test_a_regression_gives_its_dimensions():
    model = trained(regression=True)
    windows = [window(0), window(1)]
    found = WindowModel(model, batch=2)(windows)
    np.testing.assert_allclose(found["scores"], expected_logits(model, windows), atol=1e-5)


def test_features_of_one_modality_are_those_beside_the_other():
    model = WindowModel(pretrained(), batch=2)
    both = model([window(0), window(1)])
    assert sorted(both) == ["audio_1", "audio_3", "fused_audio", "fused_video", "video_1", "video_3"]
    picture, sound = model([window(1, sound=False)]), model([window(1, picture=False)])
    assert sorted(picture) == ["video_1", "video_3"]
    assert sorted(sound) == ["audio_1", "audio_3"]
    for name, values in {**picture, **sound}.items():
        np.testing.assert_allclose(values, both[name][1:], atol=1e-5)


def test_a_model_of_one_modality_says_what_it_lacks():
    of_video = WindowModel(trained("video"), batch=1)
    assert of_video.lacking("audio") == "video"
    assert of_video.lacking("audio-visual") is None
    assert WindowModel(trained(), batch=1).lacking("audio") is None
    assert of_video([window(0, sound=False)])["feature"].shape == (1, MODEL.encoder_dim)
