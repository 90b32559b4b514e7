"""From a host batch to model inputs, inside the compiled step: crop, resize, log-mel, masks.

The host sends what it read, uint8 frames and int16 samples, the fewest bytes a clip can cost. Everything
random here is drawn from keys folded from (seed, purpose, step, example), so a clip's draws never depend on
its place in the batch, on the number of hosts or on the run's history.

No FFT, no rejection loop, and no gather of pixels or samples (but for `roll`): crop and resize are
matrix products, frames of sound are cut by reshaping and their spectrum is a matrix product, so that a batch
sharded over devices stays where it is (XLA gathers the whole batch on every device to do an FFT).
"""

import dataclasses
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from data_pipeline.media import log_mel as kaldi
from hicmae_jax.model.config import MaskConfig, ModelConfig
from hicmae_jax.model.masking import TokenMask, draw_mask

CROP_SCALES = (1.0, 0.875, 0.75, 0.66)
"""Crop sides as shares of the stored side: 160, 140, 120 and 105 pixels of 160."""
CROP_SIZES = tuple((i, j) for i in range(4) for j in range(4) if abs(i - j) <= 1)
"""(height, width) as indices of CROP_SCALES, at most one step apart."""
CROP_ANCHORS = (
    *((0, 0), (4, 0), (0, 4), (4, 4), (2, 2), (0, 2), (4, 2), (2, 4), (2, 0)),
    *((1, 1), (3, 1), (1, 3), (3, 3)),
)
"""Places (x, y) of a crop, in quarters of the room left beside it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreprocessConfig:
    """What `preprocess_batch` makes of a batch; the defaults are the published training augmentation.

    Attributes:
        model: geometry of the clips to make. The stored frames may be larger or smaller than
            `model.image_size`: crops are taken in proportion to the stored side, then resized.
        masks: kinds and ratios of the masks.
        multi_scale_crop: crop at random; else take the full frame.
        gain: multiply the sound by Beta(10, 10) + 0.5.
        roll: also roll the sound by a random number of samples (the published code names this, but always
            rolls by 0).
        evaluation_gain: keep the random gain in evaluation, as the published code does.

    Raises:
        ValueError: mel bins other than Kaldi's 128, or a mask ratio that leaves no token on one side.
    """

    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    masks: MaskConfig = dataclasses.field(default_factory=MaskConfig)
    multi_scale_crop: bool = True
    gain: bool = True
    roll: bool = False
    evaluation_gain: bool = False

    def __post_init__(self) -> None:
        if self.model.audio_bins != kaldi.MEL_BINS:
            raise ValueError(f"audio_bins {self.model.audio_bins}: log-mel features have {kaldi.MEL_BINS}")
        self.masks.sizes(self.model)

    def for_evaluation(self) -> "PreprocessConfig":
        """The same without augmentation (but for the gain if `evaluation_gain`); masks are still drawn."""
        return dataclasses.replace(self, multi_scale_crop=False, gain=self.evaluation_gain, roll=False)


class ModelInputs(NamedTuple):
    """What one step works on.

    Attributes:
        video: float32[B, T, H, W, 3] in [0, 1], not normalised by ImageNet's statistics (the model does).
        log_mel: float32[B, frames, 128], normalised.
        video_mask: `TokenMask` over T/2 · (H/16)² tokens, with a batch dimension.
        audio_mask: `TokenMask` over frames/16 · 8 tokens, with a batch dimension.
    """

    video: jax.Array
    log_mel: jax.Array
    video_mask: TokenMask
    audio_mask: TokenMask


def clip_keys(seed_key: jax.Array, purpose: str, step: jax.Array | int, example: jax.Array) -> jax.Array:
    """One key a clip for one named purpose, a function of (seed, purpose, step, example) alone.

    Args:
        seed_key: a typed PRNG key, the same throughout a run.
        purpose: name of the stream; folded in by its checksum, so that a new stream never moves another.
        step: the step's number.
        example: int32[B], the clips' ids.

    Returns:
        Keys [B].
    """
    stream = jax.random.fold_in(jax.random.fold_in(seed_key, zlib.crc32(purpose.encode())), step)
    return jax.vmap(jax.random.fold_in, (None, 0))(stream, example)


def preprocess_batch(
    batch: Mapping[str, jax.Array], seed_key: jax.Array, step: jax.Array | int, config: PreprocessConfig
) -> ModelInputs:
    """Make model inputs of a host batch; jit it with `config` static, or call it inside a jitted step.

    Args:
        batch: frames uint8[B, T, S, S, 3], audio int16[B, N], samples int32[B] (how many of the N are sound)
            and example int32[B] (the clips' ids); other entries are ignored.
        seed_key: a typed PRNG key, the same throughout a run.
        step: the step's number, may be traced.
        config: what to make.

    Returns:
        `ModelInputs`.

    Raises:
        ValueError: frames that are not square, or not as many as the model takes.
    """
    frames, samples = batch["frames"], batch["samples"]
    model, masks = config.model, config.masks
    if frames.ndim != 5 or frames.shape[1] != model.frames or frames.shape[2] != frames.shape[3]:
        raise ValueError(
            f"frames have shape {frames.shape}; expected {model.frames} square frames a clip, "
            f"[B, {model.frames}, S, S, 3]"
        )

    def draw(purpose: str, function: Callable, *arguments: object) -> Any:
        keys = clip_keys(seed_key, purpose, step, batch["example"])
        return jax.vmap(lambda key: function(key, *arguments))(keys)

    stored = frames.shape[2]
    if config.multi_scale_crop:
        video = crop_resize(frames, draw("crop", draw_crop, stored), model.image_size)
    elif stored == model.image_size:
        video = frames.astype(jnp.float32)
    else:
        full = jnp.tile(jnp.array([0, 0, stored, stored]), (len(frames), 1))
        video = crop_resize(frames, full, model.image_size)

    sound = remove_mean(batch["audio"].astype(jnp.float32) / kaldi.INT16_SCALE, samples)
    if config.roll:
        sound = jax.vmap(roll)(sound, samples, draw("roll", jax.random.uniform))
    if config.gain:
        sound = sound * draw("gain", draw_gain)[:, None]
    return ModelInputs(
        video / 255,
        log_mel(sound, samples, model.audio_frames),
        draw(
            "video mask",
            partial(draw_mask, masks.video_kind),
            model.video_grid,
            masks.video_ratio,
            masks.video_decode_fraction,
        ),
        draw(
            "audio mask",
            partial(draw_mask, masks.audio_kind),
            model.audio_grid,
            masks.audio_ratio,
            masks.audio_decode_fraction,
        ),
    )


# --- Video --------------------------------------------------------------------------------------------------


def draw_crop(key: jax.Array, stored: int) -> jax.Array:
    """Draw a multi-scale crop: each pair of sides and each anchor equally likely.

    Args:
        key: a typed PRNG key.
        stored: side of the stored frames, pixels.

    Returns:
        int32[4], (x, y, width, height).
    """
    size_key, anchor_key = jax.random.split(key)
    sides = jnp.array([int(stored * scale) for scale in CROP_SCALES])
    size = jnp.array(CROP_SIZES)[jax.random.randint(size_key, (), 0, len(CROP_SIZES))]
    height, width = sides[size]
    anchor = jnp.array(CROP_ANCHORS)[jax.random.randint(anchor_key, (), 0, len(CROP_ANCHORS))]
    return jnp.stack(
        [anchor[0] * ((stored - width) // 4), anchor[1] * ((stored - height) // 4), width, height]
    )


def resize_matrix(start: jax.Array, length: jax.Array, size_in: int, size_out: int) -> jax.Array:
    """Matrix that cuts `length` pixels from `start` and resizes them as Pillow's bilinear filter does.

    Pixel centres lie at halves; when shrinking, the triangle widens by the ratio (antialiasing); pixels
    outside the cut have no weight.

    Returns:
        float32[size_out, size_in], rows summing to 1.
    """
    ratio = length / size_out
    centre = start + (jnp.arange(size_out)[:, None] + 0.5) * ratio
    pixel = jnp.arange(size_in)[None, :]
    weights = jnp.maximum(0, 1 - jnp.abs(pixel + 0.5 - centre) / jnp.maximum(ratio, 1))
    weights = jnp.where((pixel >= start) & (pixel < start + length), weights, 0)
    return weights / weights.sum(-1, keepdims=True)


def crop_resize(frames: jax.Array, boxes: jax.Array, size: int) -> jax.Array:
    """Crop every clip by its own box and resize all to one size, bilinear as Pillow does it.

    Args:
        frames: uint8[B, T, S, S, 3].
        boxes: int32[B, 4], (x, y, width, height), the same for all frames of a clip.
        size: side of the result, pixels.

    Returns:
        float32[B, T, size, size, 3] on the scale of the input, not rounded.
    """
    stored = frames.shape[2]
    matrices = jax.vmap(resize_matrix, (0, 0, None, None))
    rows = matrices(boxes[:, 1], boxes[:, 3], stored, size)
    columns = matrices(boxes[:, 0], boxes[:, 2], stored, size)
    # HIGH is three bfloat16 passes on TPU and tf32 on GPU: its weights keep 11 bits or more, so that a value
    # up to 255 moves by about a tenth of a grey level. One bfloat16 pass, of 8 bits, would move it by half.
    frames = frames.astype(jnp.float32)
    frames = jnp.einsum("boh,bthwc->btowc", rows, frames, precision=jax.lax.Precision.HIGH)
    return jnp.einsum("bpw,btowc->btopc", columns, frames, precision=jax.lax.Precision.HIGH)


# --- Sound --------------------------------------------------------------------------------------------------


def remove_mean(sound: jax.Array, samples: jax.Array) -> jax.Array:
    """Subtract each clip's mean over its true samples; what lies beyond them becomes 0.

    Args:
        sound: float32[B, N].
        samples: int32[B], how many of the N are sound.
    """
    real = jnp.arange(sound.shape[1]) < samples[:, None]
    mean = jnp.where(real, sound, 0).sum(-1, keepdims=True) / jnp.maximum(samples[:, None], 1)
    return jnp.where(real, sound - mean, 0)


def draw_gain(key: jax.Array) -> jax.Array:
    """Beta(10, 10) + 0.5, float32 scalar: the median of 19 uniform draws is exactly Beta(10, 10)."""
    return jnp.sort(jax.random.uniform(key, (19,)))[9] + 0.5


def roll(sound: jax.Array, samples: jax.Array, share: jax.Array) -> jax.Array:
    """Roll one clip float32[N] around its true samples by a share in [0, 1) of them."""
    samples = jnp.maximum(samples, 1)
    index = jnp.arange(len(sound))
    source = (index + (share * samples).astype(jnp.int32)) % samples
    return jnp.where(index < samples, sound[source], sound)


def spectrum_matrix() -> np.ndarray:
    """Real and imaginary parts of the windowed, zero-padded Fourier transform, float32[400, 2 · 257]."""
    angle = 2 * np.pi * np.outer(np.arange(kaldi.WINDOW), np.arange(kaldi.FFT_SIZE // 2 + 1)) / kaldi.FFT_SIZE
    return (np.concatenate([np.cos(angle), -np.sin(angle)], -1) * kaldi.window()[:, None]).astype(np.float32)


def log_mel(sound: jax.Array, samples: jax.Array, frames: int = kaldi.LOG_MEL_FRAMES) -> jax.Array:
    """Kaldi log-mel features as `data_pipeline.media.log_mel.log_mel` makes them, for a batch.

    Args:
        sound: float32[B, N] in [-1, 1), mean removed, 16 kHz.
        samples: int32[B], how many of the N are sound.
        frames: time steps of the result; longer sound is cut after framing.

    Returns:
        float32[B, frames, 128], `PAD_VALUE` where the sound has ended.
    """
    # A frame is 2.5 hops long: rows i, i + 1 and half of row i + 2 of the sound cut into hops.
    hops = frames + kaldi.WINDOW // kaldi.HOP
    wanted = hops * kaldi.HOP
    sound = jnp.pad(sound[:, :wanted], ((0, 0), (0, max(0, wanted - sound.shape[1]))))
    rows = sound.reshape(-1, hops, kaldi.HOP)
    rest = kaldi.WINDOW % kaldi.HOP
    framed = jnp.concatenate([rows[:, :-2], rows[:, 1:-1], rows[:, 2:, :rest]], -1)
    framed = framed - framed.mean(-1, keepdims=True)
    previous = jnp.concatenate([framed[..., :1], framed[..., :-1]], -1)
    framed = framed - kaldi.PRE_EMPHASIS * previous
    # Quiet bins beside loud ones are differences of large terms: nothing short of full float32 will do.
    spectrum = jnp.dot(framed, spectrum_matrix(), precision=jax.lax.Precision.HIGHEST)
    real, imaginary = jnp.split(spectrum, 2, -1)
    filters = kaldi.mel_filters().astype(np.float32)
    energy = jnp.dot(real**2 + imaginary**2, filters, precision=jax.lax.Precision.HIGHEST)
    features = jnp.log(jnp.maximum(energy, kaldi.ENERGY_FLOOR))
    count = jnp.where(samples < kaldi.WINDOW, 0, 1 + (samples - kaldi.WINDOW) // kaldi.HOP)
    inside = jnp.arange(frames)[None, :, None] < count[:, None, None]
    return (jnp.where(inside, features, 0) - kaldi.MEAN) / (2 * kaldi.STANDARD_DEVIATION)
