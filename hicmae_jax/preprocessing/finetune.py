"""Turns a host batch into inputs of fine-tuning, in the compiled step: crop, flip, erasing, log-mel.

RandAugment, which needs 8-bit pixels, has been applied on the host (`data_pipeline.reading.randaugment`);
mixing of clips follows (`hicmae_jax.preprocessing.mixing`). As in pre-training, all random draws use keys
folded from (seed, purpose, step, example), and there is no rejection loop and no gather of pixels.

Pixels stay in [0, 1]. The published code normalises them before it crops and erases, and the model does so
after it. That is the same, because the weights of a resized pixel sum to 1 and noise is scaled.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from data_pipeline.common.setting import check_limits, setting
from data_pipeline.format.host_batch import HostBatch
from data_pipeline.media import log_mel_constants as kaldi
from hicmae_jax.model.config import ModelConfig
from hicmae_jax.preprocessing import audio, video
from hicmae_jax.preprocessing.erasing import erase
from hicmae_jax.preprocessing.keys import clip_keys, draw_for_clips
from hicmae_jax.preprocessing.random_boxes import draw_erased_box, draw_resized_crop


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinetunePreprocessConfig:
    """Choices of `preprocess_clips`; the defaults are the published training augmentation.

    Attributes:
        model: geometry of the clips to make. The stored frames may be larger or smaller than
            `model.image_size`: they are resized.

    Raises:
        ValueError: mel bins other than Kaldi's 128, or a probability outside [0, 1].
    """

    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    crop: bool = setting(
        True, "in training, crop at random (area 8 % to 100 %, ratio 3/4 to 4/3) and resize to the full size"
    )
    flip: float = setting(0.5, "probability of a training clip to be mirrored", at_least=0, at_most=1)
    erase: float = setting(
        0.25, "probability of a training clip to have a box filled with noise", at_least=0, at_most=1
    )
    gain: bool = setting(True, "multiply the sound by Beta(10, 10) + 0.5 in training")
    evaluation_gain: bool = setting(False, "apply the gain in evaluation too, as the published code does")

    def __post_init__(self) -> None:
        check_limits(self)
        if self.model.audio_bins != kaldi.MEL_BINS:
            raise ValueError(f"audio_bins {self.model.audio_bins}: log-mel features have {kaldi.MEL_BINS}")

    def for_evaluation(self) -> "FinetunePreprocessConfig":
        """The same without augmentation (except the gain if `evaluation_gain`)."""
        return dataclasses.replace(self, crop=False, flip=0.0, erase=0.0, gain=self.evaluation_gain)


def preprocess_clips(
    batch: HostBatch[jax.Array], seed_key: jax.Array, step: jax.Array | int, config: FinetunePreprocessConfig
) -> tuple[jax.Array, jax.Array]:
    """Make inputs of the fine-tuning model; jit it with `config` static, or call it inside a jitted step.

    Args:
        batch: samples as they are stored, with square frames; `replaced` is ignored.
        seed_key: a typed PRNG key, the same throughout a run.
        step: number of the step, may be traced.
        config: choices of the preprocessing.

    Returns:
        Video [B, T, size, size, 3]: float32 in [0, 1], where erased boxes may lie outside; uint8 if there is
        neither crop nor erasing. Log-mel features float32[B, audio_frames, 128].

    Raises:
        ValueError: the frames are not square, or their number is not `config.model.frames`.
    """
    frames, model = batch["frames"], config.model
    video.check_frames(frames.shape, model.frames)
    draw = draw_for_clips(seed_key, step, batch["example"])

    sound = audio.remove_mean(batch["audio"].astype(jnp.float32) / kaldi.INT16_SCALE, batch["samples"])
    if config.gain:
        sound = sound * draw("gain", audio.draw_gain)[:, None]
    log_mel = audio.log_mel(sound, batch["samples"], model.audio_frames)

    made = _cropped(frames, config, draw)
    if config.flip:
        flipped = draw("flip", jax.random.bernoulli, config.flip)
        made = jnp.where(flipped[:, None, None, None, None], made[:, :, :, ::-1], made)
    if config.erase:
        pixels = made.astype(jnp.float32) / 255 if made.dtype == jnp.uint8 else made
        boxes = draw("erase", draw_erased_box, model.image_size, config.erase)
        made = jax.vmap(erase)(clip_keys(seed_key, "noise", step, batch["example"]), pixels, boxes)
    return made, log_mel


def _cropped(frames: jax.Array, config: FinetunePreprocessConfig, draw: Callable[..., Any]) -> jax.Array:
    """Crop and resize: uint8[B, T, S, S, 3] → [B, T, size, size, 3], float32 in [0, 1] or uint8.

    A crop that grows is bilinear without antialiasing, as in the published code, which stores frames in the
    model's size. A crop of larger stored frames that shrinks is antialiased.
    """
    stored, size = frames.shape[2], config.model.image_size
    if config.crop:
        boxes = draw("random resized crop", draw_resized_crop, stored)
        return video.crop_resize(frames, boxes, size) / 255
    if stored == size:
        return frames
    return video.crop_resize_rounded(frames, video.whole_frames(len(frames), stored), size)
