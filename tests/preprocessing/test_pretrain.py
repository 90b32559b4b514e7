import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from data_pipeline.media import log_mel as host_log_mel
from data_pipeline.media import log_mel_constants as kaldi
from hicmae_jax.model import masking
from hicmae_jax.model.config import MaskConfig, ModelConfig
from hicmae_jax.preprocessing import audio, video
from hicmae_jax.preprocessing.keys import clip_keys
from hicmae_jax.preprocessing.pretrain import PreprocessConfig, preprocess_batch
from tests.goldens import recipe
from tests.support.collectives import collectives
from tests.support.golden_log_mel import FLOOR, LOG_MEL, assert_close_to_golden, golden_waveform
from tests.support.paths import GOLDENS

CROP_GOLDEN = np.load(GOLDENS / "crop_resize.npz")
SMALL = PreprocessConfig(model=ModelConfig(image_size=32, frames=2, audio_frames=64))
SMALL_FLOAT = dataclasses.replace(SMALL, pixels="float32")
SAMPLES = np.array([10_400, 10_400, 7_000, 1_025])


@jax.jit
def device_log_mel(sound, samples):
    return audio.log_mel(audio.remove_mean(sound, samples), samples)


def small_batch(stored: int = 40) -> dict[str, np.ndarray]:
    sound = np.stack([recipe.waveform(i, 10_400) for i in range(4)])
    sound[np.arange(10_400) >= SAMPLES[:, None]] = 0
    return {
        "frames": recipe.video(1, 4, 2, stored),
        "audio": np.round(sound * 20_000).astype(np.int16),
        "samples": SAMPLES.astype(np.int32),
        "example": np.array([7, 70_000, 3, 12], np.int32),
    }


run = partial(jax.jit(preprocess_batch, static_argnames="config"), seed_key=jax.random.key(0), step=3)


# --- Sound --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(LOG_MEL))
def test_published_log_mel(name):
    waveform = golden_waveform(name)
    padded = np.pad(waveform, (0, 41_600 - len(waveform)))
    features = device_log_mel(padded[None], np.array([len(waveform)]))[0]
    assert_close_to_golden(np.asarray(features), LOG_MEL[name])


def test_log_mel_agrees_with_the_host_for_every_length():
    lengths = [0, 399, 400, 1_025, 20_000, 41_199, 41_360, 41_599, 41_600]
    rng = np.random.default_rng(0)
    pcm = np.stack([np.round(recipe.waveform(n, 41_600) * 20_000) for n in lengths]).astype(np.int16)
    for row, n in zip(pcm, lengths):
        row[n:] = rng.integers(-1_000, 1_000, 41_600 - n)  # rubbish that must not count
    features = device_log_mel(pcm.astype(np.float32) / 32_768, np.array(lengths))
    expected = np.stack([host_log_mel.log_mel(row, n) for row, n in zip(pcm, lengths)])
    np.testing.assert_allclose(features, expected, atol=1e-4)


def test_a_pure_tone_over_silence_keeps_its_quiet_bins():
    # A loud tone leaves most bins 80 dB below it: where a float32 spectrum would first go wrong.
    tone = (0.9 * np.sin(2 * np.pi * 440 * np.arange(41_600) / 16_000)).astype(np.float32)
    features = device_log_mel(tone[None], np.array([41_600]))[0]
    np.testing.assert_allclose(features, host_log_mel.log_mel(tone), atol=1e-3)


def test_gain_is_beta_distributed():
    gains = np.asarray(jax.vmap(audio.draw_gain)(jax.random.split(jax.random.key(1), 40_000)))
    # Beta(10, 10): variance 1 / (4 · 21), fourth central moment 3 · variance² · 21 / 23.
    assert gains.mean() == pytest.approx(1, abs=0.002)
    assert gains.var() == pytest.approx(1 / 84, rel=0.03)
    assert ((gains - 1) ** 4).mean() == pytest.approx(3 / 84**2 * 21 / 23, rel=0.06)
    assert gains.min() > 0.5
    assert gains.max() < 1.5


def test_gain_moves_log_mel_by_a_constant():
    plain = np.asarray(run(small_batch(), config=dataclasses.replace(SMALL, gain=False)).log_mel)
    moved = np.asarray(run(small_batch(), config=SMALL).log_mel) - plain
    for clip, before, samples in zip(moved, plain, SAMPLES):
        count = kaldi.frame_count(samples)
        audible = before[:count] > FLOOR + 0.2  # what rests at the floor cannot move
        assert audible.mean() > 0.9
        change = clip[:count][audible]
        gain = np.exp(np.median(change) * kaldi.STANDARD_DEVIATION)
        assert 0.5 < gain < 1.5
        assert abs(gain - 1) > 1e-3
        np.testing.assert_allclose(change, np.median(change), atol=1e-3)
        np.testing.assert_array_equal(clip[count:], 0)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999_999_9])
def test_roll_turns_the_true_samples_only(share):
    sound = jnp.arange(10.0)
    rolled = audio.roll(sound, jnp.int32(7), jnp.float32(share))
    np.testing.assert_array_equal(rolled[:7], np.roll(np.arange(7.0), -int(7 * share)))
    np.testing.assert_array_equal(rolled[7:], sound[7:])


def test_roll_is_an_option():
    rolled = run(small_batch(), config=dataclasses.replace(SMALL, roll=True))
    plain = run(small_batch(), config=SMALL)
    np.testing.assert_array_equal(rolled.video, plain.video)
    assert not np.allclose(rolled.log_mel, plain.log_mel, atol=1e-2)


# --- Video --------------------------------------------------------------------------------------------------


def test_published_crop_and_resize():
    boxes = CROP_GOLDEN["boxes"]
    frames = recipe.video(31, 1, 2, 160).repeat(len(boxes), 0)
    error = np.abs(jax.jit(video.crop_resize, static_argnums=2)(frames, boxes, 160) - CROP_GOLDEN["resized"])
    assert error.max() <= 1.01
    assert error.mean((1, 2, 3, 4)).max() <= 0.35


def test_published_crops_are_pillows_bytes():
    boxes = CROP_GOLDEN["boxes"]
    frames = recipe.video(31, 1, 2, 160).repeat(len(boxes), 0)
    rounded = jax.jit(video.crop_resize_rounded, static_argnums=2)(frames, boxes, 160)
    assert rounded.dtype == jnp.uint8
    np.testing.assert_array_equal(rounded, CROP_GOLDEN["resized"])


def test_every_crop_that_training_draws_is_pillows_bytes():
    frame = recipe.video(7, 1, 1, 160)[0, 0]
    keys = jax.random.split(jax.random.key(2), 3_000)
    boxes = np.unique(jax.vmap(partial(video.draw_crop, stored=160))(keys), axis=0)
    assert len(boxes) > 80
    resize = jax.jit(video.crop_resize_rounded, static_argnums=2)
    for box in boxes:
        made = resize(frame[None, None], jnp.array([box]), 160)[0, 0]
        np.testing.assert_array_equal(made, pillow_resized(frame, box, 160), err_msg=str(box))


def pillow_resized(frame, box, size):
    x, y, width, height = map(int, box)
    image = Image.fromarray(frame).crop((x, y, x + width, y + height))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


@pytest.mark.parametrize("box", [(0, 0, 160, 160), (5, 12, 105, 120), (55, 0, 105, 105)])
def test_shrinking_antialiases_as_pillow_does(box):
    frame = recipe.video(2, 1, 1, 160)[0, 0]
    expected = pillow_resized(frame, box, 96).astype(np.float32)
    error = np.abs(video.crop_resize(frame[None, None], jnp.array([box]), 96)[0, 0] - expected)
    assert error.max() <= 1.01
    assert error.mean() <= 0.35
    # These weights are no binary fractions, and 8 % of the values are halves: Pillow, with other rounding
    # errors, rounds some of them the other way.
    rounded = video.crop_resize_rounded(frame[None, None], jnp.array([box]), 96)[0, 0]
    error = np.abs(np.asarray(rounded, np.float32) - expected)
    assert error.max() <= 1
    assert error.mean() <= 0.06


def test_only_listed_crops_are_drawn_all_equally_likely():
    keys = jax.random.split(jax.random.key(2), 26_000)
    drawn = np.asarray(jax.vmap(partial(video.draw_crop, stored=160))(keys))
    sides = (160, 140, 120, 105)
    expected = {}
    for i, height in enumerate(sides):
        for j, width in enumerate(sides):
            if abs(i - j) <= 1:
                w4, h4 = (160 - width) // 4, (160 - height) // 4
                for x, y in video.CROP_ANCHORS:
                    box = (x * w4, y * h4, width, height)
                    expected[box] = expected.get(box, 0) + 1 / 130
    boxes, counts = np.unique(drawn, axis=0, return_counts=True)
    assert {tuple(map(int, box)) for box in boxes} == set(expected)
    shares = np.array([expected[tuple(map(int, box))] for box in boxes])
    deviation = (counts - 26_000 * shares) / np.sqrt(26_000 * shares * (1 - shares))
    assert np.abs(deviation).max() < 4.5


def test_evaluation_takes_the_full_frame_untouched():
    batch = small_batch(stored=32)
    np.testing.assert_array_equal(run(batch, config=SMALL.for_evaluation()).video, batch["frames"])
    video = run(batch, config=SMALL_FLOAT.for_evaluation()).video
    np.testing.assert_allclose(video, batch["frames"] / 255, atol=1e-7)


def test_evaluation_resizes_larger_frames_and_drops_augmentation_but_keeps_masks():
    batch = small_batch()
    training, evaluation = run(batch, config=SMALL), run(batch, config=SMALL.for_evaluation())
    full = jnp.tile(jnp.array([0, 0, 40, 40]), (4, 1))
    assert evaluation.video.dtype == jnp.uint8
    np.testing.assert_allclose(
        evaluation.video / 255, video.crop_resize(batch["frames"], full, 32) / 255, atol=1.01 / 255
    )
    unrounded = run(batch, config=SMALL_FLOAT.for_evaluation()).video
    np.testing.assert_allclose(unrounded, video.crop_resize(batch["frames"], full, 32) / 255, atol=1e-6)
    for row, pcm, samples in zip(evaluation.log_mel, batch["audio"], SAMPLES):
        np.testing.assert_allclose(row, host_log_mel.log_mel(pcm, samples, frames=64), atol=1e-3)
    jax.tree.map(np.testing.assert_array_equal, evaluation.video_mask, training.video_mask)
    published = dataclasses.replace(SMALL, evaluation_gain=True).for_evaluation()
    np.testing.assert_array_equal(run(batch, config=published).log_mel, training.log_mel)


# --- The whole ----------------------------------------------------------------------------------------------


def test_the_default_shapes_are_the_papers():
    batch = {
        "frames": jax.ShapeDtypeStruct((2, 16, 160, 160, 3), jnp.uint8),
        "audio": jax.ShapeDtypeStruct((2, 41_600), jnp.int16),
        "samples": jax.ShapeDtypeStruct((2,), jnp.int32),
        "example": jax.ShapeDtypeStruct((2,), jnp.int32),
    }
    made = jax.eval_shape(partial(preprocess_batch, config=PreprocessConfig()), batch, jax.random.key(0), 0)
    assert jax.tree.map(lambda x: x.shape, made) == (
        (2, 16, 160, 160, 3),
        (2, 256, 128),
        ((2, 80), (2, 720)),
        ((2, 26), (2, 102)),
    )


def test_values_are_in_model_units():
    made, unrounded = (run(small_batch(), config=config) for config in (SMALL, SMALL_FLOAT))
    assert made.video.dtype == jnp.uint8
    assert unrounded.video.dtype == made.log_mel.dtype == jnp.float32
    assert unrounded.video.min() >= 0
    assert unrounded.video.max() <= 1
    # Each of two passes rounds by half a grey level at most.
    np.testing.assert_allclose(made.video / 255, unrounded.video, atol=1.01 / 255)
    assert jnp.isfinite(made.log_mel).all()
    tokens = np.sort(np.concatenate(made.audio_mask, -1), -1)
    np.testing.assert_array_equal(tokens, np.tile(np.arange(4 * 8), (4, 1)))


def test_draws_depend_on_the_clip_and_not_on_its_row():
    batch, order = small_batch(), np.array([2, 0, 3])
    picked = run({name: value[order] for name, value in batch.items()}, config=SMALL)
    whole = run(batch, config=SMALL)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b[order], atol=1e-5), picked, whole)


@pytest.mark.parametrize("change", ["seed_key", "step", "example"])
def test_draws_change_with_seed_step_and_example(change):
    batch = small_batch()
    arguments = {"batch": batch, "seed_key": jax.random.key(0), "step": 3}
    before = jax.jit(preprocess_batch, static_argnames="config")(**arguments, config=SMALL)
    new = {"seed_key": jax.random.key(1), "step": 4, "example": batch | {"example": batch["example"] + 1}}
    arguments["batch" if change == "example" else change] = new[change]
    after = jax.jit(preprocess_batch, static_argnames="config")(**arguments, config=SMALL)
    for name in ("video", "log_mel"):
        assert not np.allclose(getattr(before, name), getattr(after, name), atol=1e-3)
    assert (before.audio_mask.visible != after.audio_mask.visible).any()


@pytest.mark.parametrize("kind", masking.DECODE_KINDS)
def test_the_decoded_video_tokens_are_drawn_as_the_masks_say(kind):
    masks = MaskConfig(video_decode_fraction=0.5, video_decode_kind=kind)
    batch, config = small_batch(), dataclasses.replace(SMALL, masks=masks)
    drawn = run(batch, config=config).video_mask
    keys = clip_keys(jax.random.key(0), "video mask", 3, batch["example"])
    for clip, key in enumerate(keys):
        expected = masking.draw_mask("tube", key, SMALL.model.video_grid, 0.9, 0.5, kind)
        np.testing.assert_array_equal(drawn.visible[clip], expected.visible)
        np.testing.assert_array_equal(drawn.masked[clip], expected.masked)


def test_all_steps_share_one_compilation():
    traced = []

    @jax.jit
    def step(batch, number):
        traced.append(number)
        return preprocess_batch(batch, jax.random.key(0), number, SMALL)

    masks = [np.asarray(step(small_batch(), number).audio_mask.visible) for number in range(3)]
    assert len(traced) == 1
    assert (masks[0] != masks[1]).any()


def test_each_purpose_has_its_own_keys():
    example = jnp.arange(3)
    keys = [clip_keys(jax.random.key(0), purpose, 0, example) for purpose in ("gain", "crop", "roll")]
    data = np.concatenate([jax.random.key_data(key) for key in keys])
    assert len(np.unique(data, axis=0)) == 9


def test_a_sharded_batch_needs_no_communication():
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.NamedSharding(mesh, jax.P("data"))

    def spec(*shape: int, dtype: type = jnp.int32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((2 * mesh.size, *shape), dtype, sharding=rows)

    batch = {
        "frames": spec(2, 40, 40, 3, dtype=jnp.uint8),
        "audio": spec(10_400, dtype=jnp.int16),
        "samples": spec(),
        "example": spec(),
    }
    step = jax.jit(preprocess_batch, static_argnames="config")
    text = step.lower(batch, jax.random.key(0), 0, SMALL).compile().as_text()
    assert collectives(text) == []


def test_wrong_shapes_and_sizes_are_refused():
    batch = small_batch()
    with pytest.raises(ValueError, match=r"expected 2 square frames a clip"):
        preprocess_batch(batch | {"frames": batch["frames"][:, :1]}, jax.random.key(0), 0, SMALL)
    with pytest.raises(ValueError, match=r"audio_bins 64: log-mel features have 128"):
        PreprocessConfig(model=ModelConfig(audio_bins=64))
    with pytest.raises(ValueError, match=r"leaves no visible token"):
        PreprocessConfig(masks=MaskConfig(video_ratio=1.0))
