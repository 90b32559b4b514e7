import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipeline.media import log_mel as host_log_mel
from hicmae_jax.model.config import ModelConfig
from hicmae_jax.model.tokens import PIXEL_MEAN, PIXEL_STD
from hicmae_jax.preprocessing import video
from hicmae_jax.preprocessing.erasing import erase
from hicmae_jax.preprocessing.finetune import FinetunePreprocessConfig, preprocess_clips
from hicmae_jax.preprocessing.random_boxes import draw_erased_box, draw_resized_crop
from tests.goldens import recipe
from tests.support.collectives import collectives
from tests.support.golden_check import assert_agrees

CONFIG = FinetunePreprocessConfig(model=ModelConfig(image_size=32, frames=2, audio_frames=64))
PLAIN = CONFIG.for_evaluation()
CLIPS = 8
SAMPLES = np.array([10_400, 10_400, 7_000, 1_025] * 2)


def small_batch(stored=32):
    sound = np.stack([recipe.waveform(i, 10_400) for i in range(CLIPS)])
    sound[np.arange(10_400) >= SAMPLES[:, None]] = 0
    return {
        "frames": recipe.video(1, CLIPS, 2, stored),
        "audio": np.round(sound * 20_000).astype(np.int16),
        "samples": SAMPLES.astype(np.int32),
        "example": np.array([7, 70_000, 3, 12, 13, 14, 15, 16], np.int32),
    }


compiled = jax.jit(preprocess_clips, static_argnames="config")
run = partial(compiled, seed_key=jax.random.key(0), step=3)


def boxes_of(draw, count, *arguments):
    keys = jax.random.split(jax.random.key(4), count)
    return np.asarray(jax.jit(jax.vmap(lambda key: draw(key, *arguments)))(keys))


# --- Random resized crop ------------------------------------------------------------------------------------


def test_published_crops():
    assert_agrees("augmentation", ("crops",))


def test_crops_have_the_published_areas_and_ratios():
    x, y, width, height = boxes_of(draw_resized_crop, 20_000, 160).T
    assert min(x.min(), y.min()) == 0
    assert (x + width).max() == (y + height).max() == 160
    area, ratio = width * height / 160**2, width / height
    # Sides are rounded to whole pixels.
    assert 0.078 < area.min() < 0.085
    assert 0.74 < ratio.min() < ratio.max() < 1.36
    # Areas are uniform but for large ones, which fit less often; ratios are log-uniform where all fit.
    expected, counts = expected_crops(), np.histogram(area, AREAS)[0] / len(area)
    np.testing.assert_allclose(counts, expected, atol=0.012)
    small = np.log(ratio[area < 0.7])
    assert small.mean() == pytest.approx(0, abs=0.006)
    assert small.var() == pytest.approx((2 * np.log(4 / 3)) ** 2 / 12, rel=0.03)
    # Every place is equally likely, and rows and columns are independent.
    wide = np.minimum(160 - width, 160 - height) > 20
    places = [
        (start + 0.5) / (161 - length) for start, length in ((x[wide], width[wide]), (y[wide], height[wide]))
    ]
    for place in places:
        np.testing.assert_allclose(np.quantile(place, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.02)
    assert abs(np.corrcoef(places)[0, 1]) < 0.05


AREAS = np.linspace(0.08, 1.001, 8)


def expected_crops():
    """Shares of crops between `AREAS`, by tries one after the other as in the published code."""
    rng, found = np.random.default_rng(0), []
    for _ in range(20_000):
        for _ in range(10):
            area = 160**2 * rng.uniform(0.08, 1)
            ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
            width, height = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
            if width <= 160 and height <= 160:
                found.append(width * height / 160**2)
                break
        else:
            found.append(1.0)
    return np.histogram(found, AREAS)[0] / len(found)


def test_a_crop_that_never_fits_is_the_whole_frame():
    # In a frame of one pixel, only areas above a quarter round to a side of 1.
    np.testing.assert_array_equal(boxes_of(draw_resized_crop, 50, 1), np.tile([0, 0, 1, 1], (50, 1)))


# --- Random erasing -----------------------------------------------------------------------------------------


def test_erased_boxes_have_the_published_areas_and_ratios():
    boxes = boxes_of(draw_erased_box, 20_000, 160, 0.25)
    erased = boxes[boxes[:, 2] > 0]
    np.testing.assert_array_equal(boxes[boxes[:, 2] == 0], 0)
    assert len(erased) / len(boxes) == pytest.approx(0.25, abs=0.012)
    x, y, width, height = erased.T
    assert min(x.min(), y.min()) == 0
    assert (x + width).max() == (y + height).max() == 160
    assert max(width.max(), height.max()) < 160
    area, ratio = width * height / 160**2, width / height
    assert 0.019 < area.min() < area.max() < 0.337
    assert area.mean() == pytest.approx((0.02 + 1 / 3) / 2, abs=0.006)
    assert area.var() == pytest.approx((1 / 3 - 0.02) ** 2 / 12, rel=0.06)
    assert 0.29 < ratio.min() < 0.31
    assert 3.2 < ratio.max() < 3.45
    assert np.log(ratio).mean() == pytest.approx(0, abs=0.03)
    assert np.log(ratio).var() == pytest.approx((2 * np.log(1 / 0.3)) ** 2 / 12, rel=0.05)


def test_erasing_always_and_never():
    assert boxes_of(draw_erased_box, 500, 160, 1.0)[:, 2].all()
    assert not boxes_of(draw_erased_box, 500, 160, 0.0).any()


def test_noise_is_normal_and_independent_in_each_frame_pixel_and_channel():
    clip = np.full((8, 64, 64, 3), 0.25, np.float32)
    made = np.asarray(erase(jax.random.key(0), clip, jnp.array([5, 9, 40, 30])))
    noise = (made[:, 9:39, 5:45] - np.float32(PIXEL_MEAN)) / np.float32(PIXEL_STD)
    np.testing.assert_allclose(noise.mean((0, 1, 2)), 0, atol=0.04)
    np.testing.assert_allclose(noise.std((0, 1, 2)), 1, atol=0.03)
    assert np.abs(np.corrcoef(noise.reshape(8, -1)) - np.eye(8)).max() < 0.08
    assert np.abs(np.corrcoef(noise.reshape(-1, 3).T) - np.eye(3)).max() < 0.05
    outside = made.copy()
    outside[:, 9:39, 5:45] = 0.25
    np.testing.assert_array_equal(outside, clip)
    np.testing.assert_array_equal(erase(jax.random.key(0), clip, jnp.zeros(4, jnp.int32)), clip)


# --- The whole ----------------------------------------------------------------------------------------------


def test_evaluation_takes_bytes_untouched():
    batch = small_batch()
    made, log_mel = run(batch, config=PLAIN)
    assert made.dtype == jnp.uint8
    np.testing.assert_array_equal(made, batch["frames"])
    for row, pcm, samples in zip(log_mel, batch["audio"], SAMPLES):
        np.testing.assert_allclose(row, host_log_mel.log_mel(pcm, samples, frames=64), atol=1e-3)


def test_evaluation_resizes_whole_frames_and_takes_the_gain_by_option():
    batch = small_batch(stored=40)
    made, log_mel = run(batch, config=PLAIN)
    whole = jnp.tile(jnp.array([0, 0, 40, 40]), (CLIPS, 1))
    assert made.dtype == jnp.uint8
    # Each of two passes rounds by half a grey level at most.
    resized = video.crop_resize(batch["frames"], whole, 32)
    np.testing.assert_allclose(made.astype(jnp.float32), resized, atol=1.01)
    published = dataclasses.replace(CONFIG, evaluation_gain=True).for_evaluation()
    louder = run(batch, config=published)[1]
    np.testing.assert_array_equal(louder, run(batch, config=CONFIG)[1])
    assert np.abs(louder - log_mel).max() > 1e-2


def test_half_of_the_clips_are_mirrored_as_a_whole():
    batch = small_batch()
    flips = dataclasses.replace(PLAIN, flip=0.5)
    flipped = []
    for step in range(12):
        made, _ = compiled(batch, jax.random.key(0), step, flips)
        assert made.dtype == jnp.uint8
        for clip, frames in zip(np.asarray(made), batch["frames"]):
            flipped.append(not (clip == frames).all())
            np.testing.assert_array_equal(clip, frames[:, :, ::-1] if flipped[-1] else frames)
    assert 0.3 < np.mean(flipped) < 0.7
    always, _ = run(batch, config=dataclasses.replace(PLAIN, flip=1.0))
    np.testing.assert_array_equal(always, batch["frames"][:, :, :, ::-1])


def test_erasing_alone_keeps_the_other_pixels():
    batch = small_batch()
    made, _ = run(batch, config=dataclasses.replace(PLAIN, erase=1.0))
    assert made.dtype == jnp.float32
    same = np.isclose(made, batch["frames"] / np.float32(255), atol=1e-6).all(-1)
    share = 1 - same.mean((1, 2, 3))
    assert (share > 0.01).all()
    assert (share < 0.36).all()
    # One box for all frames.
    np.testing.assert_array_equal(same[:, 0], same[:, 1])
    assert len(np.unique(share)) > CLIPS // 2


def test_the_crop_is_one_box_for_all_frames():
    batch = small_batch()
    batch["frames"] = batch["frames"][:, :1].repeat(2, 1)
    made, _ = run(batch, config=dataclasses.replace(PLAIN, crop=True))
    assert made.dtype == jnp.float32
    np.testing.assert_array_equal(made[:, 0], made[:, 1])
    assert made.min() >= 0
    assert made.max() <= 1
    assert not np.allclose(made, batch["frames"] / 255, atol=1e-2)


def test_the_default_shapes_are_the_papers():
    batch = {
        "frames": jax.ShapeDtypeStruct((2, 16, 160, 160, 3), jnp.uint8),
        "audio": jax.ShapeDtypeStruct((2, 41_600), jnp.int16),
        "samples": jax.ShapeDtypeStruct((2,), jnp.int32),
        "example": jax.ShapeDtypeStruct((2,), jnp.int32),
    }
    config = FinetunePreprocessConfig()
    made = jax.eval_shape(partial(preprocess_clips, config=config), batch, jax.random.key(0), 0)
    assert [(x.shape, x.dtype) for x in made] == [
        ((2, 16, 160, 160, 3), jnp.float32),
        ((2, 256, 128), jnp.float32),
    ]
    choices = (config.crop, config.flip, config.erase, config.gain, config.evaluation_gain)
    assert choices == (True, 0.5, 0.25, True, False)


def test_draws_depend_on_the_clip_and_not_on_its_row():
    config = dataclasses.replace(CONFIG, erase=1.0)
    batch, order = small_batch(), np.array([2, 0, 3])
    picked = run({name: value[order] for name, value in batch.items()}, config=config)
    whole = run(batch, config=config)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b[order], atol=1e-5), picked, whole)


@pytest.mark.parametrize("change", ["seed_key", "step", "example"])
def test_draws_change_with_seed_step_and_example(change):
    batch = small_batch()
    arguments = {"batch": batch, "seed_key": jax.random.key(0), "step": 3}
    before = compiled(**arguments, config=CONFIG)
    new = {"seed_key": jax.random.key(1), "step": 4, "example": batch | {"example": batch["example"] + 1}}
    arguments["batch" if change == "example" else change] = new[change]
    after = compiled(**arguments, config=CONFIG)
    for one, other in zip(before, after, strict=True):
        assert not np.allclose(one, other, atol=1e-3)


def test_a_sharded_batch_needs_no_communication():
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.NamedSharding(mesh, jax.P("data"))
    batch = {
        name: jax.ShapeDtypeStruct((2 * mesh.size, *value.shape[1:]), value.dtype, sharding=rows)
        for name, value in small_batch(stored=40).items()
    }
    text = compiled.lower(batch, jax.random.key(0), 0, CONFIG).compile().as_text()
    assert collectives(text) == []


def test_wrong_shapes_and_choices_are_refused():
    batch = small_batch()
    with pytest.raises(ValueError, match=r"expected 2 square frames a clip"):
        preprocess_clips(batch | {"frames": batch["frames"][:, :1]}, jax.random.key(0), 0, CONFIG)
    with pytest.raises(ValueError, match=r"audio_bins 64: log-mel features have 128"):
        FinetunePreprocessConfig(model=ModelConfig(audio_bins=64))
    with pytest.raises(ValueError, match=r"flip 1.5 is not in \[0, 1\]"):
        FinetunePreprocessConfig(flip=1.5)
