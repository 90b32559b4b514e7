"""The settings of the model, of how it is computed and of the masks: frozen dataclasses with checks.

A wrong choice is an error of one line before any array exists.
"""

import dataclasses

from data_pipeline.common.setting import check_limits, check_multiple, setting
from hicmae_jax.model import masking

FLOWS = ("default", "raw-input", "video-first", "audio-first")
SKIP_ORDERS = ("deepest-first", "shallowest-first")
REMAT = ("none", "dots", "full")
DTYPES = ("float32", "bfloat16")
ATTENTION = ("xla", "pallas", "cudnn")
PLAIN_LAYOUT, CPU_LAYOUT = "plain", "cpu"
MODALITIES = ("audio-visual", "video", "audio")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Geometry, widths and wiring of HiCMAE (paper sections 3.1 and 4.5); the defaults are HiCMAE-B.

    Raises:
        ValueError: one line with the setting, its value and what is allowed.
    """

    image_size: int = setting(160, "height and width of a frame, in pixels", at_least=1)
    frames: int = setting(16, "frames in a clip", at_least=1)
    tubelet: int = setting(2, "frames in a tubelet", at_least=1)
    patch: int = setting(16, "side of a tubelet in pixels, and of an audio patch in bins", at_least=1)
    audio_frames: int = setting(256, "log-mel frames in a clip, of 10 ms each", at_least=1)
    audio_bins: int = setting(128, "mel bins", at_least=1)
    encoder_dim: int = setting(512, "width of the encoders and of the fusion encoder", at_least=1)
    encoder_heads: int = setting(8, "attention heads of the encoders", at_least=1)
    encoder_depth: int = setting(10, "layers of each modality's encoder, N_s", at_least=1)
    decoder_dim: int = setting(384, "width of the decoders", at_least=1)
    decoder_heads: int = setting(6, "attention heads of the decoders", at_least=1)
    decoder_depth: int = setting(4, "layers of each decoder, N_d", at_least=1)
    fusion_depth: int = setting(
        2, "fusion layers in each direction, N_f; 0 leaves the two final LayerNorms", at_least=0
    )
    fusion_flow: str = setting(
        "default", "information flow of the fusion encoder (paper table 16)", choices=FLOWS
    )
    skip_layers: tuple[int, ...] = setting(
        (4, 7, 10),
        "tapped encoder layers, from 1, ascending: contrast is applied there, and skips start there",
    )
    skip_connections: bool = setting(
        True, "decoder blocks 2, 3, … attend to the tapped layers (paper table 13)"
    )
    skip_order: str = setting(
        "deepest-first",
        "which tap decoder block 2 gets; the published code: deepest-first, paper section 4.1: "
        "shallowest-first",
        choices=SKIP_ORDERS,
    )

    def __post_init__(self) -> None:
        """Check every choice."""
        check_limits(self)
        check_multiple("image_size", self.image_size, "the patch", self.patch)
        check_multiple("frames", self.frames, "the tubelet", self.tubelet)
        check_multiple("audio_frames", self.audio_frames, "the patch", self.patch)
        check_multiple("audio_bins", self.audio_bins, "the patch", self.patch)
        check_multiple("encoder_dim", self.encoder_dim, "encoder_heads", self.encoder_heads)
        check_multiple("decoder_dim", self.decoder_dim, "decoder_heads", self.decoder_heads)
        object.__setattr__(self, "skip_layers", tuple(self.skip_layers))
        if list(self.skip_layers) != sorted(set(self.skip_layers)):
            raise ValueError(f"skip_layers {self.skip_layers} must be different and ascending")
        if any(not 1 <= layer <= self.encoder_depth for layer in self.skip_layers):
            raise ValueError(
                f"skip_layers {self.skip_layers} must lie in 1 … {self.encoder_depth}, the encoder's layers"
            )
        if self.skip_connections and len(self.skip_layers) > self.decoder_depth - 1:
            raise ValueError(
                f"{len(self.skip_layers)} skip_layers need a decoder_depth of {len(self.skip_layers) + 1} or "
                f"more, not {self.decoder_depth}: the first decoder block takes no skip"
            )

    def check_clips(self, video: tuple[int, ...] | None, log_mel: tuple[int, ...] | None) -> None:
        """Refuse clips of another geometry, which would be cut into other tokens without a word.

        Args:
            video: shape of the clips; None where the model takes none.
            log_mel: shape of the spectrograms, likewise.

        Raises:
            ValueError: naming the shape and the one that this model takes.
        """
        own_video = (self.frames, self.image_size, self.image_size, 3)
        own_log_mel = (self.audio_frames, self.audio_bins)
        for name, shape, own in (("video", video, own_video), ("log_mel", log_mel, own_log_mel)):
            if shape is not None and tuple(shape[1:]) != own:
                wanted = ", ".join(map(str, own))
                raise ValueError(f"{name} has shape {tuple(shape)}; this model takes [B, {wanted}]")

    @property
    def video_grid(self) -> tuple[int, int]:
        """(slices, places in a slice) of the video tokens."""
        return self.frames // self.tubelet, (self.image_size // self.patch) ** 2

    @property
    def audio_grid(self) -> tuple[int, int]:
        """(time, frequency) of the audio tokens."""
        return self.audio_frames // self.patch, self.audio_bins // self.patch

    @property
    def video_tokens(self) -> int:
        """Video tokens in a clip."""
        return self.video_grid[0] * self.video_grid[1]

    @property
    def audio_tokens(self) -> int:
        """Audio tokens in a clip."""
        return self.audio_grid[0] * self.audio_grid[1]

    @property
    def tubelet_values(self) -> int:
        """Values in a tubelet: frame × row × column × channel."""
        return self.tubelet * self.patch * self.patch * 3

    @property
    def audio_patch_values(self) -> int:
        """Values in an audio patch."""
        return self.patch * self.patch

    @property
    def decoder_skips(self) -> tuple[int, ...]:
        """Encoder layers that decoder blocks 2, 3, … attend to, in the decoder's order."""
        if not self.skip_connections:
            return ()
        return self.skip_layers[::-1] if self.skip_order == "deepest-first" else self.skip_layers


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExecutionConfig:
    """How a model is computed. The model, its loss and its gradient stay the same up to rounding.

    Raises:
        ValueError: one line with the setting, its value and the choices.
    """

    dtype: str = setting(
        "float32",
        "of the computation; parameters, normalisation statistics, softmax and loss stay float32",
        choices=DTYPES,
    )
    attention: str = setting(
        "xla",
        "XLA's; or what keeps scores out of memory: this project's TPU kernel (pallas), NVIDIA's for GPUs "
        "(cudnn)",
        choices=ATTENTION,
    )
    layout: str = setting(
        PLAIN_LAYOUT,
        "of matrix products: by clip (plain), or as XLA multiplies fastest on CPUs (cpu): the tokens of all "
        "clips at once, attention one head after the other",
        choices=(PLAIN_LAYOUT, CPU_LAYOUT),
    )
    reduce_dtype: str = setting(
        "computed",
        "in which devices sum the gradients of matrices: as they are computed, in dtype, or float32",
        choices=("computed", "float32"),
    )
    scan_encoders: bool = setting(
        False, "loop over encoder layers with stacked parameters, which are other arrays in a checkpoint"
    )
    remat_encoder: str = setting(
        "none",
        "what the encoders' backward pass recomputes: nothing, all but matrix products (dots), or all; auto: "
        "nothing with cudnn, all otherwise",
        choices=REMAT,
    )
    remat_fusion: str = setting("none", "the same for the fusion encoder", choices=REMAT)
    remat_decoder: str = setting("none", "the same for the decoders", choices=REMAT)
    compiler_options: tuple[str, ...] = setting(
        (), "changes to the options of XLA for the update: name=value; name= leaves one to the compiler"
    )

    def __post_init__(self) -> None:
        """Check every choice."""
        check_limits(self)
        for text in self.compiler_options:
            name, equals, _ = text.partition("=")
            if not name or not equals:
                raise ValueError(f"compiler_options: {text!r} is not name=value, nor name=")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskConfig:
    """Masking of both modalities (paper section 3.1.1).

    Raises:
        ValueError: one line with the setting, its value and the choices.
    """

    video_kind: str = setting(
        "tube", "mask the same places in every slice of time, or any tokens", choices=("tube", "random")
    )
    video_ratio: float = setting(0.9, "share of places (tube) or tokens (random) that are masked")
    audio_kind: str = setting(
        "random",
        "mask any tokens, or whole columns (time) or rows (frequency) of the spectrogram",
        choices=("random", "time", "frequency"),
    )
    audio_ratio: float = setting(0.8, "share of tokens, time steps or bands that are masked")
    video_decode_fraction: float = setting(
        1.0, "share of the masked video tokens that is decoded and scored (dual masking)"
    )
    video_decode_kind: str = setting(
        "random",
        "which of them where that is not all: any, or of each cell of 2 × 2 places others in every slice of "
        "time, so that they cover places and time evenly",
        choices=masking.DECODE_KINDS,
    )
    audio_decode_fraction: float = setting(
        1.0, "share of the masked audio tokens that is decoded and scored, at random"
    )

    def __post_init__(self) -> None:
        """Check the kinds."""
        check_limits(self)

    def sizes(self, model: ModelConfig) -> tuple[tuple[int, int], tuple[int, int]]:
        """Static ((visible, decoded) video, (visible, decoded) audio) token counts.

        Raises:
            ValueError: a ratio that leaves no visible or no masked token, with the name of its setting.
        """
        return self._sizes("video", model.video_grid), self._sizes("audio", model.audio_grid)

    def _sizes(self, modality: str, grid: tuple[int, int]) -> tuple[int, int]:
        kind, ratio, decoded = (
            getattr(self, f"{modality}_{name}") for name in ("kind", "ratio", "decode_fraction")
        )
        try:
            return masking.mask_sizes(kind, grid, ratio, decoded)
        except ValueError as error:
            what = "decode_fraction" if "decode" in str(error) else "ratio"
            raise ValueError(f"{modality}_{what}: {error}") from None


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """The fine-tuning model on top of `ModelConfig` (paper section 3.4).

    Raises:
        ValueError: one line with the setting, its value and what is allowed.
    """

    outputs: int = setting(meaning="emotion classes, or dimensions of a regression", at_least=1)
    modality: str = setting("audio-visual", "which modalities the fine-tuned model takes", choices=MODALITIES)
    feature_fusion: bool = setting(
        True, "a learned weighting of every encoder layer instead of the last layer (paper table 13)"
    )
    drop_path: float = setting(
        0.1,
        "stochastic depth at the last block of each stack, rising linearly from 0",
        at_least=0,
        below=1,
    )

    def __post_init__(self) -> None:
        """Check the choices."""
        check_limits(self)
