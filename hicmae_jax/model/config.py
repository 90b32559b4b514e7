"""What can be chosen, as frozen dataclasses that refuse impossible choices when they are made.

Every check of sizes, divisibility and names lives here, so that a wrong choice is one clear line before
any array exists.
"""

import dataclasses

from hicmae_jax.model import masking

FLOWS = ("default", "raw-input", "video-first", "audio-first")
SKIP_ORDERS = ("deepest-first", "shallowest-first")
REMAT = ("none", "dots", "full")
DTYPES = ("float32", "bfloat16")
ATTENTION = ("xla", "pallas")
MODALITIES = ("audio-visual", "video", "audio")


def _choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} = {value!r}: choose one of {', '.join(choices)}")


def _divides(what: str, value: int, by_what: str, by: int) -> None:
    if by < 1 or value < 1 or value % by:
        raise ValueError(f"{what} {value} is not a positive multiple of {by_what} {by}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Geometry, widths and wiring of HiCMAE (paper sections 3.1 and 4.5); the defaults are HiCMAE-B.

    Attributes:
        image_size: height and width of a frame, pixels.
        frames: frames in a clip.
        tubelet: frames in a tubelet.
        patch: side of a tubelet in pixels and of an audio patch in bins.
        audio_frames: log-mel frames (10 ms each).
        audio_bins: mel bins.
        encoder_dim: width of the modality-specific and fusion encoders.
        encoder_heads: their attention heads.
        encoder_depth: layers of each modality-specific encoder, N_s.
        decoder_dim: width of the decoders.
        decoder_heads: their attention heads.
        decoder_depth: decoder layers, N_d.
        fusion_depth: fusion layers each way, N_f; with 0 the two final LayerNorms of the fusion encoder
            remain.
        fusion_flow: information flow of the fusion encoder (paper table 16).
        skip_layers: tapped encoder layers, 1-based, ascending: contrast is applied there and skips start
            there.
        skip_connections: whether decoder blocks 2, 3, … attend to the taps (paper table 13).
        skip_order: `deepest-first` is what the published code does, `shallowest-first` what section 4.1 of
            the paper says. Decoder blocks beyond the number of taps are plain.
    """

    image_size: int = 160
    frames: int = 16
    tubelet: int = 2
    patch: int = 16
    audio_frames: int = 256
    audio_bins: int = 128
    encoder_dim: int = 512
    encoder_heads: int = 8
    encoder_depth: int = 10
    decoder_dim: int = 384
    decoder_heads: int = 6
    decoder_depth: int = 4
    fusion_depth: int = 2
    fusion_flow: str = "default"
    skip_layers: tuple[int, ...] = (4, 7, 10)
    skip_connections: bool = True
    skip_order: str = "deepest-first"

    def __post_init__(self) -> None:
        """Check every choice.

        Raises:
            ValueError: naming the field, its value and what would do.
        """
        _divides("image_size", self.image_size, "the patch", self.patch)
        _divides("frames", self.frames, "the tubelet", self.tubelet)
        _divides("audio_frames", self.audio_frames, "the patch", self.patch)
        _divides("audio_bins", self.audio_bins, "the patch", self.patch)
        _divides("encoder_dim", self.encoder_dim, "encoder_heads", self.encoder_heads)
        _divides("decoder_dim", self.decoder_dim, "decoder_heads", self.decoder_heads)
        if self.encoder_depth < 1 or self.decoder_depth < 1 or self.fusion_depth < 0:
            raise ValueError(
                f"encoder_depth {self.encoder_depth} and decoder_depth {self.decoder_depth} must be at least "
                f"1, fusion_depth {self.fusion_depth} at least 0"
            )
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
        _choice("fusion_flow", self.fusion_flow, FLOWS)
        _choice("skip_order", self.skip_order, SKIP_ORDERS)

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
    """How a model is computed. The model itself, its loss and its gradient stay the same up to rounding.

    Attributes:
        dtype: of the computation; parameters, normalisation statistics, softmax and loss stay float32.
        attention: `xla`, or `pallas` for this project's TPU kernel (see `attention.attend`).
        scan_encoders: loop over the encoder layers with stacked parameters instead of unrolling them. The
            parameter tree differs: one array of all layers instead of one array for each layer.
        remat_encoder: what the encoders' backward pass recomputes: nothing (`none`), everything but matrix
            products (`dots`), or every block (`full`).
        remat_fusion: the same choice for the fusion encoder.
        remat_decoder: the same choice for the decoders.
    """

    dtype: str = "float32"
    attention: str = "xla"
    scan_encoders: bool = False
    remat_encoder: str = "none"
    remat_fusion: str = "none"
    remat_decoder: str = "none"

    def __post_init__(self) -> None:
        """Check every choice.

        Raises:
            ValueError: with the field, its value and the choices.
        """
        _choice("dtype", self.dtype, DTYPES)
        _choice("attention", self.attention, ATTENTION)
        for name in ("remat_encoder", "remat_fusion", "remat_decoder"):
            _choice(name, getattr(self, name), REMAT)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskConfig:
    """Masking of both modalities (paper section 3.1.1).

    Attributes:
        video_kind: `tube` or `random`.
        video_ratio: share of places (tube) or tokens (random) masked.
        audio_kind: `random`, `time` (whole columns of the spectrogram) or `frequency`.
        audio_ratio: share of tokens, time steps or bands masked.
        video_decode_fraction: share of the masked video tokens that is decoded (dual masking); 1 decodes
            and scores all of them.
        audio_decode_fraction: likewise for audio.
    """

    video_kind: str = "tube"
    video_ratio: float = 0.9
    audio_kind: str = "random"
    audio_ratio: float = 0.8
    video_decode_fraction: float = 1.0
    audio_decode_fraction: float = 1.0

    def __post_init__(self) -> None:
        """Check the kinds.

        Raises:
            ValueError: naming the field, its value and what would do.
        """
        _choice("video_kind", self.video_kind, ("tube", "random"))
        _choice("audio_kind", self.audio_kind, ("random", "time", "frequency"))

    def sizes(self, model: ModelConfig) -> tuple[tuple[int, int], tuple[int, int]]:
        """Static ((visible, decoded) video, (visible, decoded) audio) token counts.

        Raises:
            ValueError: a ratio that leaves no visible or no masked token.
        """
        video = masking.mask_sizes(
            self.video_kind, model.video_grid, self.video_ratio, self.video_decode_fraction
        )
        audio = masking.mask_sizes(
            self.audio_kind, model.audio_grid, self.audio_ratio, self.audio_decode_fraction
        )
        return video, audio


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """The fine-tuning model on top of `ModelConfig` (paper section 3.4).

    Attributes:
        outputs: emotion classes, or dimensions of a regression.
        modality: `audio-visual`, or one modality alone.
        feature_fusion: hierarchical feature fusion: a learned weighting of every encoder layer; off, the
            last layer alone (paper table 13).
        drop_path: stochastic depth at the last block of each stack, rising linearly from 0.
    """

    outputs: int
    modality: str = "audio-visual"
    feature_fusion: bool = True
    drop_path: float = 0.1

    def __post_init__(self) -> None:
        """Check the choices.

        Raises:
            ValueError: naming the field, its value and what would do.
        """
        _choice("modality", self.modality, MODALITIES)
        if self.outputs < 1 or not 0 <= self.drop_path < 1:
            raise ValueError(
                f"outputs {self.outputs} must be at least 1 and drop_path {self.drop_path} in [0, 1)"
            )
