"""Turns a host batch into inputs of pre-training, in the compiled step: crop, resize, log-mel, masks.

The host sends uint8 frames and int16 samples, the fewest bytes for a clip. All random draws here use keys
folded from (seed, purpose, step, example). So the draws of a clip depend neither on its place in the batch
nor on the number of hosts nor on the history of the run.

There is no FFT, no rejection loop and (except in `roll`) no gather of pixels or samples. Crop, resize and
spectrum are matrix products and frames of sound are cut by reshaping, because XLA gathers a sharded batch on
every device to compute an FFT.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from data_pipeline.common.setting import check_limits, setting
from data_pipeline.format.host_batch import HostBatch
from data_pipeline.media import log_mel_constants as kaldi
from hicmae_jax.model.config import MaskConfig, ModelConfig
from hicmae_jax.model.inputs import ModelInputs
from hicmae_jax.model.masking import draw_mask
from hicmae_jax.preprocessing import audio, video
from hicmae_jax.preprocessing.keys import draw_for_clips


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreprocessConfig:
    """Choices of `preprocess_batch`; the defaults are the published training augmentation.

    Attributes:
        model: geometry of the clips to make. The stored frames may be larger or smaller than
            `model.image_size`: crops are taken in proportion to the stored side, then resized.
        masks: kinds and ratios of the masks.

    Raises:
        ValueError: mel bins other than Kaldi's 128, a mask ratio that masks every token or none, or an
            unknown kind of pixels.
    """

    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    masks: MaskConfig = dataclasses.field(default_factory=MaskConfig)
    multi_scale_crop: bool = setting(True, "crop at random in training, instead of taking whole frames")
    pixels: str = setting(
        "rounded",
        "round resized frames to whole grey levels, as Pillow and so the published code does; or keep them "
        "as float32, as runs of earlier versions did",
        choices=("rounded", "float32"),
    )
    gain: bool = setting(True, "multiply the sound by Beta(10, 10) + 0.5 in training")
    roll: bool = setting(
        False, "roll the sound by a random number of samples; the published code always rolls by 0"
    )
    evaluation_gain: bool = setting(False, "apply the gain in evaluation too, as the published code does")

    def __post_init__(self) -> None:
        check_limits(self)
        if self.model.audio_bins != kaldi.MEL_BINS:
            raise ValueError(f"audio_bins {self.model.audio_bins}: log-mel features have {kaldi.MEL_BINS}")
        self.masks.sizes(self.model)

    def for_evaluation(self) -> "PreprocessConfig":
        """The same without augmentation (except the gain if `evaluation_gain`); masks are still drawn."""
        return dataclasses.replace(self, multi_scale_crop=False, gain=self.evaluation_gain, roll=False)


def preprocess_batch(
    batch: HostBatch[jax.Array], seed_key: jax.Array, step: jax.Array | int, config: PreprocessConfig
) -> ModelInputs:
    """Make model inputs from a host batch; jit it with `config` static, or call it inside a jitted step.

    Args:
        batch: samples as they are stored, with square frames; `replaced` is ignored.
        seed_key: a typed PRNG key, the same throughout a run.
        step: number of the step, may be traced.
        config: choices of the preprocessing.

    Returns:
        Video (uint8, or float32 in [0, 1]: `config.pixels`), log-mel and masks, each with the batch as its
        first dimension.

    Raises:
        ValueError: the frames are not square, or their number is not `config.model.frames`.
    """
    frames = batch["frames"]
    model, masks = config.model, config.masks
    video.check_frames(frames.shape, model.frames)
    draw = draw_for_clips(seed_key, step, batch["example"])

    return ModelInputs(
        video=_make_video(frames, config, draw),
        log_mel=_make_log_mel(batch["audio"], batch["samples"], config, draw),
        video_mask=draw(
            "video mask",
            partial(draw_mask, masks.video_kind),
            model.video_grid,
            masks.video_ratio,
            masks.video_decode_fraction,
            masks.video_decode_kind,
        ),
        audio_mask=draw(
            "audio mask",
            partial(draw_mask, masks.audio_kind),
            model.audio_grid,
            masks.audio_ratio,
            masks.audio_decode_fraction,
        ),
    )


def _make_video(frames: jax.Array, config: PreprocessConfig, draw: Callable[..., Any]) -> jax.Array:
    """Crop and resize: uint8[B, T, S, S, 3] → [B, T, size, size, 3], uint8 or float32 in [0, 1]."""
    stored, size = frames.shape[2], config.model.image_size
    rounded = config.pixels == "rounded"
    resize = video.crop_resize_rounded if rounded else video.crop_resize
    if config.multi_scale_crop:
        resized = resize(frames, draw("crop", video.draw_crop, stored), size)
    elif stored == size:
        resized = frames if rounded else frames.astype(jnp.float32)
    else:
        resized = resize(frames, video.whole_frames(len(frames), stored), size)
    return resized if rounded else resized / 255


def _make_log_mel(
    pcm: jax.Array, samples: jax.Array, config: PreprocessConfig, draw: Callable[..., Any]
) -> jax.Array:
    """Augment the sound and make its features: int16[B, N] → float32[B, frames, 128]."""
    sound = audio.remove_mean(pcm.astype(jnp.float32) / kaldi.INT16_SCALE, samples)
    if config.roll:
        sound = jax.vmap(audio.roll)(sound, samples, draw("roll", jax.random.uniform))
    if config.gain:
        sound = sound * draw("gain", audio.draw_gain)[:, None]
    return audio.log_mel(sound, samples, config.model.audio_frames)
