"""HiCMAE in one file of PyTorch: copy it anywhere; it needs `torch`, and for .safetensors also `safetensors`.

Pre-training with its losses, and fine-tuning (arXiv 2401.05698). Parameters have the published names. A
folder of exported weights holds this file as `hicmae_torch.py`:

    model = HiCMAE.from_pretrained("folder")
    video, log_mel = model.preprocess(frames, waveform)  # uint8 [B, T, H, W, 3], 16 kHz sound [B, samples]
    features = model.extract_features(video, log_mel)  # of both kinds of model
    scores = model.scores(video, log_mel)  # of a fine-tuned one

Sections: configuration; sound and pictures; layers; output; both models; loss; folders of weights.
"""

import functools
import json
import math
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 7):
    raise ImportError(f"torch {torch.__version__} is too old: pip install 'torch>=2.7'")

# --- Configuration ------------------------------------------------------------------------------------------

EPSILON = 1e-6  # of every LayerNorm and of the targets' standard deviation
PIXEL_MEAN, PIXEL_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet
FLOWS = ("default", "raw-input", "video-first", "audio-first")
SKIP_ORDERS = ("deepest-first", "shallowest-first")
MODALITIES = {"audio-visual": ("video", "audio"), "video": ("video",), "audio": ("audio",)}
ENCODERS = {"video": "encoder", "audio": "encoder_audio"}
Mask = tuple[Tensor, Tensor]  # int [B, visible] and [B, masked]: flat token indices
FRAME_RATE, SAMPLE_RATE = 25, 16_000  # of the clips, a second
STRIDE = 4  # frames of a video from one frame of a clip to the next, in the published recipe
WINDOW, HOP, FFT_SIZE = 400, 160, 512  # of the log-mel features, in samples
LOWEST_HZ, HIGHEST_HZ, PRE_EMPHASIS, ENERGY_FLOOR = 20.0, 8_000.0, 0.97, 1.1920929e-7
LOG_MEL_MEAN, LOG_MEL_STD = -4.2677393, 4.5689974  # AudioSet; features are (x - mean) / (2 * std)


@dataclass(frozen=True)
class Config:
    """Geometry, widths and wiring (paper sections 3.1 and 4.5); the defaults are HiCMAE-B.

    The contrastive loss compares the encoder layers `skip_layers` (1-based). With `skip_connections`, decoder
    blocks 2, 3, … attend to these layers; `deepest-first` is the published code's order, the other one the
    paper's. `fusion_flow`: see paper table 16. With `fusion_depth` 0, two final LayerNorms remain.
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
        object.__setattr__(self, "skip_layers", tuple(self.skip_layers))
        of = {"frames": "tubelet", "encoder_dim": "encoder_heads", "decoder_dim": "decoder_heads"}
        of |= dict.fromkeys(("image_size", "audio_frames", "audio_bins"), "patch")
        wrong = [f"{a} is no multiple of {b}" for a, b in of.items() if getattr(self, a) % getattr(self, b)]
        if list(self.skip_layers) != sorted({*self.skip_layers} & {*range(1, self.encoder_depth + 1)}):
            wrong.append("skip_layers do not ascend within 1 … encoder_depth")
        if len(self.decoder_skips) >= self.decoder_depth:
            wrong.append("decoder_depth must exceed the number of skips")
        if self.fusion_flow not in FLOWS or self.skip_order not in SKIP_ORDERS:
            wrong.append(f"fusion_flow is one of {FLOWS}, skip_order of {SKIP_ORDERS}")
        if wrong:
            raise ValueError(f"{'; '.join(wrong)}: {self}")

    @property
    def decoder_skips(self) -> tuple[int, ...]:
        """Encoder layers that decoder blocks 2, 3, … attend to, in the decoder's order."""
        step = -1 if self.skip_order == "deepest-first" else 1
        return self.skip_layers[::step] if self.skip_connections else ()


@dataclass(frozen=True)
class Task:
    """What a fine-tuned model answers: `labels` are its classes, or the dimensions of a regression, in order.

    `modality` is `audio-visual`, `video` or `audio`; the last two have no fusion encoder. With
    `feature_fusion`, features of all encoder layers are summed with learned weights; otherwise the last layer
    is used. Stochastic depth rises linearly from 0 to `drop_path` in each stack.
    """

    labels: tuple[str, ...]
    modality: str = "audio-visual"
    feature_fusion: bool = True
    drop_path: float = 0.1
    regression: bool = False

    def __post_init__(self) -> None:
        if self.modality not in MODALITIES:
            raise ValueError(f"modality {self.modality!r}: choose one of {', '.join(MODALITIES)}")


# --- Sound and pictures -------------------------------------------------------------------------------------


@functools.cache
def mel_filters(bins: int) -> Tensor:
    """Kaldi's triangular filters, float64 [257, bins]: edges equally spaced in mel, slopes linear in mel."""
    low, high = (1127 * math.log1p(hz / 700) for hz in (LOWEST_HZ, HIGHEST_HZ))
    edges = torch.linspace(low, high, bins + 2, dtype=torch.float64)
    hz = torch.arange(FFT_SIZE // 2 + 1, dtype=torch.float64)[:, None] * SAMPLE_RATE / FFT_SIZE
    mel, (left, centre, right) = 1127 * torch.log1p(hz / 700), (edges[:-2], edges[1:-1], edges[2:])
    return torch.minimum((mel - left) / (centre - left), (right - mel) / (right - centre)).clamp(min=0)


@torch.no_grad()
def log_mel(waveform: Tensor, frames: int = 256, bins: int = 128) -> Tensor:
    """Kaldi's log-mel features of sound [B, samples], float in [-1, 1) or int16 → float32 [B, frames, bins].

    The sound must be mono at 16 kHz: a tensor does not tell its rate, and sound of another rate gives wrong
    features without an error. Its end is cut or padded after `frames` steps of 10 ms. Clips of different
    lengths go one by one, because the mean over a clip's own samples is subtracted.
    """
    if waveform.dim() != 2 or not (waveform.is_floating_point() or waveform.dtype == torch.int16):
        found = f"{tuple(waveform.shape)} of {waveform.dtype}"
        raise ValueError(
            f"waveform is {found}; expected [B, samples], floats in [-1, 1) or int16, 16 kHz mono"
        )
    scale = 1 if waveform.is_floating_point() else 32_768
    # Quiet bins beside loud ones need double precision, which Apple's GPUs lack.
    device, at = waveform.device, torch.device("cpu") if waveform.device.type == "mps" else waveform.device
    sound = waveform.to(at, torch.float64) / scale
    if sound.shape[1] < WINDOW:
        features = sound.new_zeros(len(sound), 0, bins)
    else:
        framed = (sound - sound.mean(1, keepdim=True)).unfold(1, WINDOW, HOP)[:, :frames]
        framed = framed - framed.mean(-1, keepdim=True)
        previous = torch.cat([framed[..., :1], framed[..., :-1]], -1)
        window = torch.hann_window(WINDOW, periodic=False, dtype=torch.float64, device=at)
        power = torch.fft.rfft((framed - PRE_EMPHASIS * previous) * window, FFT_SIZE).abs() ** 2
        features = (power @ mel_filters(bins).to(at)).clamp(min=ENERGY_FLOOR).log()
    features = F.pad(features, (0, 0, 0, frames - features.shape[1]))
    return ((features - LOG_MEL_MEAN) / (2 * LOG_MEL_STD)).to(device, torch.float32)


@torch.no_grad()
def resize(frames: Tensor, side: int) -> Tensor:
    """Stretch frames uint8 [..., H, W, 3] to [..., side, side, 3], bilinear with antialiasing as Pillow does.

    Like Pillow, it resizes the columns first and rounds after each pass; a grey level may differ by 1.
    """
    if frames.dtype != torch.uint8 or frames.dim() < 4 or frames.shape[-1] != 3:
        found = f"{tuple(frames.shape)} of {frames.dtype}"
        raise ValueError(f"frames are {found}; expected uint8 [B, T, height, width, 3], RGB")
    height, width = frames.shape[-3:-1]
    if (height, width) == (side, side):
        return frames
    values = frames.flatten(0, -4).movedim(-1, 1).float()
    for size in ((height, side), (side, side)):
        values = F.interpolate(values, size=size, mode="bilinear", antialias=True)
        values = (values + 0.5).floor().clamp(0, 255)
    return values.to(torch.uint8).movedim(1, -1).reshape(*frames.shape[:-3], side, side, 3)


def check_clips(config: Config, video: Tensor | None, log_mel: Tensor | None) -> None:
    """Refuse clips of another geometry, which would be cut into other tokens without a word."""
    of_video = (config.frames, config.image_size, config.image_size, 3)
    wanted = {"video": (video, of_video), "log_mel": (log_mel, (config.audio_frames, config.audio_bins))}
    for name, (clips, own) in wanted.items():
        if clips is not None and tuple(clips.shape[1:]) != own:
            takes = ", ".join(map(str, own))
            raise ValueError(f"{name} has shape {tuple(clips.shape)}; this model takes [B, {takes}]")
    if video is not None and log_mel is not None and video.shape[0] != log_mel.shape[0]:
        raise ValueError(f"{len(video)} clips of video, but {len(log_mel)} of log_mel: give one for each")


def token_times(config: Config, stride: int = STRIDE) -> tuple[Tensor, Tensor]:
    """Begin and end of each video token [N, 2] and each audio token [M, 2], in seconds.

    0 is the begin of the first frame. A tubelet lasts until the next one begins. An audio patch lasts `patch`
    hops of 10 ms; the window of its last hop reaches 15 ms further.
    """
    places, patch = (config.image_size // config.patch) ** 2, config.patch
    slices, steps = config.frames // config.tubelet, config.audio_frames // patch
    of_video = torch.arange(slices).repeat_interleave(places) * (config.tubelet * stride / FRAME_RATE)
    of_audio = torch.arange(steps).repeat_interleave(config.audio_bins // patch) * (patch * HOP / SAMPLE_RATE)
    lasting = config.tubelet * stride / FRAME_RATE, patch * HOP / SAMPLE_RATE
    of_both = zip((of_video, of_audio), lasting)
    video, audio = (torch.stack([begin, begin + length], 1) for begin, length in of_both)
    return video, audio


# --- Layers -------------------------------------------------------------------------------------------------


def tubelets(video: Tensor, config: Config) -> Tensor:
    """Cut [B, T, H, W, 3] into [B, tokens, tubelet, patch, patch, 3], ordered by time, height, width."""
    t, side = config.tubelet, (config.image_size // config.patch, config.patch)
    grid = video.unflatten(1, (config.frames // t, t)).unflatten(3, side).unflatten(5, side)
    return grid.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(1, 3)


def audio_patches(log_mel: Tensor, config: Config) -> Tensor:
    """Cut [B, time, frequency] into [B, tokens, patch, patch, 1], ordered by time, frequency."""
    time, bins = ((size // config.patch, config.patch) for size in (config.audio_frames, config.audio_bins))
    return log_mel.float().unflatten(2, bins).unflatten(1, time).transpose(2, 3).flatten(1, 2).unsqueeze(-1)


def take(tokens: Tensor, index: Tensor) -> Tensor:
    """Tokens `index` [B, N] of each clip of [B, tokens, ...]."""
    return tokens[torch.arange(len(index), device=index.device)[:, None], index]


def pixels(values: Tensor) -> Tensor:
    """Pixels as float32 in [0, 1]; floats must be in this range already."""
    return values.float() / 255 if values.dtype == torch.uint8 else values.float()


@torch.no_grad()
def targets(patches: Tensor, frame_difference: bool = False) -> Tensor:
    """Reconstruction targets, float32 [B, N, ..., channels] → [B, N, values]: standardise each channel.

    With `frame_difference`, each frame (dimension 2) but the first becomes the change from the one before.
    """
    flat = patches.flatten(2, -2)
    flat = flat - flat[:, :, :1]  # a constant patch, such as padding, gives exact zeros
    std, mean = torch.std_mean(flat, 2, keepdim=True)
    values = ((flat - mean) / (std + EPSILON)).view_as(patches)
    if frame_difference:
        values = torch.cat([values[:, :, :1], values[:, :, 1:] - values[:, :, :-1]], 2)
    return values.flatten(2)


class Attention(nn.Module):
    """Self-attention or cross-attention, with query and value biases and no key bias."""

    def __init__(self, dim: int, heads: int, cross: bool = False) -> None:
        super().__init__()
        self.heads, self.cross = heads, cross
        self.q_bias, self.v_bias = nn.Parameter(torch.zeros(dim)), nn.Parameter(torch.zeros(dim))
        if cross:
            self.q, self.kv = nn.Linear(dim, dim, bias=False), nn.Linear(dim, 2 * dim, bias=False)
        else:
            self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Attend from x [B, N, C] to context [B, M, C] → [B, N, C]; heads are contiguous channels."""
        dim, no_bias = x.shape[-1], torch.zeros_like(self.v_bias)
        if not self.cross and x is context:  # all three projections in one product
            bias = torch.cat([self.q_bias, no_bias, self.v_bias])
            query_key_value = F.linear(x, self.qkv.weight, bias).chunk(3, -1)
        else:
            q, kv = (self.q.weight, self.kv.weight) if self.cross else self.qkv.weight.split([dim, 2 * dim])
            key_value = F.linear(context, kv, torch.cat([no_bias, self.v_bias]))
            query_key_value = F.linear(x, q, self.q_bias), *key_value.chunk(2, -1)
        heads = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in query_key_value)
        return self.proj(F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Pre-norm Transformer block; if `cross`, it first attends to a context, with a LayerNorm of its own."""

    def __init__(self, dim: int, heads: int, drop_path: float = 0.0, cross: bool = False) -> None:
        super().__init__()
        self.drop_path, self.cross = drop_path, cross
        if cross:
            self.cross_norm1, self.cross_norm2 = nn.LayerNorm(dim, EPSILON), nn.LayerNorm(dim, EPSILON)
            self.cross_attn = Attention(dim, heads, cross=True)
        self.norm1, self.norm2 = nn.LayerNorm(dim, EPSILON), nn.LayerNorm(dim, EPSILON)
        self.attn = Attention(dim, heads)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(dim, 4 * dim), "fc2": nn.Linear(4 * dim, dim)})

    def drop(self, branch: Tensor) -> Tensor:
        """In training, drop a clip's branch with probability `drop_path`, and scale the others up."""
        if not self.training or self.drop_path == 0:
            return branch
        return branch * F.dropout(branch.new_ones(len(branch), 1, 1), self.drop_path)

    def forward(self, x: Tensor, context: Tensor | None = None, rows: int = 0) -> Tensor:
        """Transform x [B, N, C], given a context [B, M, C] → [B, N, C], or [B, rows, C] of its last rows."""
        if self.cross:
            x = x + self.drop(self.cross_attn(self.cross_norm1(x), self.cross_norm2(context)))
        normed = self.norm1(x)  # keys and values need every row
        x = x[:, -rows:] + self.drop(self.attn(normed[:, -rows:] if rows else normed, normed))
        return x + self.drop(self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x)))))


def blocks(depth: int, dim: int, heads: int, drop_path: float, cross: bool = False) -> nn.ModuleList:
    """A stack of blocks; their stochastic depth rises linearly from 0 to `drop_path`."""
    rates = (drop_path * layer / max(depth - 1, 1) for layer in range(depth))
    return nn.ModuleList(Block(dim, heads, rate, cross) for rate in rates)


def positions(config: Config, modality: str, dim: int) -> Tensor:
    """Fixed float32 [tokens, dim] positions: sine on even channels, cosine on odd."""
    video = config.frames // config.tubelet * (config.image_size // config.patch) ** 2
    tokens = video if modality == "video" else config.audio_frames * config.audio_bins // config.patch**2
    channel = torch.arange(dim, dtype=torch.float64)
    angle = torch.arange(tokens)[:, None] * 10000.0 ** (-2 * (channel / 2).floor() / dim)
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos()).float()


class Stack(nn.Module):
    """A module with buffers that no file of weights has, and that its configuration tells."""

    constants: Callable[[], dict[str, Tensor]]

    def add_constants(self, constants: Callable[[], dict[str, Tensor]]) -> None:
        """Add the buffers."""
        self.constants = constants
        default = torch.get_default_device()  # the meta device holds no values
        with torch.device("cpu") if default.type == "meta" else default:
            for name, value in constants().items():
                self.register_buffer(name, value, persistent=False)

    def restore_constants(self) -> None:
        """Compute the buffers again, where a loader has made them without values."""
        for name, value in self.constants().items():
            old = getattr(self, name)
            setattr(self, name, value.to(old.device, old.dtype))


def encoder_constants(config: Config, modality: str) -> dict[str, Tensor]:
    """Buffers of an encoder, which no file of weights has."""
    return {
        "positions": positions(config, modality, config.encoder_dim),
        "pixel_mean": torch.tensor(PIXEL_MEAN),
        "pixel_std": torch.tensor(PIXEL_STD),
    }


class Encoder(Stack):
    """One modality's encoder (section 3.1.2); the patch projection is stored as a convolution."""

    positions: Tensor
    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: Config, modality: str, drop_path: float = 0.0) -> None:
        super().__init__()
        dim, p, video = config.encoder_dim, config.patch, modality == "video"
        tubelet = (config.tubelet, p, p)
        proj = nn.Conv3d(3, dim, tubelet, tubelet) if video else nn.Conv2d(1, dim, p, p)
        self.patch_embed = nn.ModuleDict({"proj": proj})
        self.blocks = blocks(config.encoder_depth, dim, config.encoder_heads, drop_path)
        self.norm = nn.LayerNorm(dim, EPSILON)
        self.add_constants(functools.partial(encoder_constants, config, modality))

    def forward(self, patches: Tensor, layers: set[int], index: Tensor | None = None) -> dict[int, Tensor]:
        """Encode patches [B, N, *patch, channels] at positions `index` → features of 1-based `layers`."""
        proj: Any = self.patch_embed["proj"]
        features: dict[int, Tensor] = {}
        if isinstance(proj, nn.Conv3d):
            patches = (patches - self.pixel_mean) / self.pixel_std
        x = F.linear(patches.flatten(2), proj.weight.movedim(1, -1).flatten(1), proj.bias)
        x = x + (self.positions if index is None else self.positions[index])
        for layer, block in enumerate(self.blocks, 1):
            x = block(x)
            if layer in layers:
                features[layer] = self.norm(x)
        return features


class Fusion(nn.Module):
    """Cross-modal fusion encoder: video and audio attend to each other (equations 3 to 6)."""

    def __init__(self, config: Config, drop_path: float = 0.0) -> None:
        super().__init__()
        dim, self.flow = config.encoder_dim, config.fusion_flow
        sizes = (config.fusion_depth, dim, config.encoder_heads, drop_path)
        self.blocks, self.blocks_audio = blocks(*sizes, cross=True), blocks(*sizes, cross=True)
        self.norm, self.norm_audio = nn.LayerNorm(dim, EPSILON), nn.LayerNorm(dim, EPSILON)

    def forward(self, video: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Fuse [B, N, C] and [B, M, C] → the same shapes."""
        raw = (video, audio)
        for video_block, audio_block in zip(self.blocks, self.blocks_audio):
            before = raw if self.flow == "raw-input" else (video, audio)
            if self.flow == "audio-first":
                audio = audio_block(audio, video)
                video = video_block(video, audio)
            else:
                video = video_block(video, before[1])
                audio = audio_block(audio, video if self.flow == "video-first" else before[0])
        return self.norm(video), self.norm_audio(audio)


def decoder_constants(config: Config, modality: str) -> dict[str, Tensor]:
    """Buffers of a decoder, which no file of weights has."""
    return {"positions": positions(config, modality, config.decoder_dim)}


class Decoder(Stack):
    """One modality's decoder (section 3.1.3)."""

    positions: Tensor

    def __init__(self, config: Config, modality: str) -> None:
        super().__init__()
        dim, heads, area = config.decoder_dim, config.decoder_heads, config.patch**2
        cross = (0 < k <= len(config.decoder_skips) for k in range(config.decoder_depth))
        self.blocks = nn.ModuleList(Block(dim, heads, cross=has_skip) for has_skip in cross)
        self.norm = nn.LayerNorm(dim, EPSILON)
        self.head = nn.Linear(dim, config.tubelet * area * 3 if modality == "video" else area)
        self.add_constants(functools.partial(decoder_constants, config, modality))

    def forward(self, stream: Tensor, skips: list[Tensor], mask_token: Tensor, mask: Mask) -> Tensor:
        """Decode [B, visible, C_d] and the skips of blocks 2, 3, … → predictions [B, masked, values]."""
        visible, masked = (self.positions[index] for index in mask)
        x = torch.cat([stream + visible, mask_token + masked], 1)
        for k, block in enumerate(self.blocks):
            rows = masked.shape[1] if k + 1 == len(self.blocks) else 0
            x = block(x, skips[k - 1] + visible if block.cross else None, rows)
        return self.head(self.norm(x))


@torch.no_grad()
def initialise(draw: Callable[[Tensor], Tensor], *stacks: nn.Module) -> None:
    """Draw the weights of all linears, qkv and kv as one matrix each; set their biases to zero."""
    for layer in (layer for stack in stacks for layer in stack.modules() if isinstance(layer, nn.Linear)):
        draw(layer.weight)
        if layer.bias is not None:
            layer.bias.zero_()


# --- Output -------------------------------------------------------------------------------------------------


class Output(NamedTuple):
    """Output of a pre-training model; levels are in `skip_layers` order."""

    video: Tensor  # predictions [B, masked tubelets, values]
    audio: Tensor  # predictions [B, masked patches, values]
    video_target: Tensor  # float32, shaped like the predictions
    audio_target: Tensor
    video_levels: tuple[Tensor, ...]  # [B, C], means over visible tokens
    audio_levels: tuple[Tensor, ...]


class Features(NamedTuple):
    """Features of clips: of every encoder layer, counted from 1, and of the fusion encoder.

    Tokens are in the order (time, height, width) and (time, frequency). `pooled` is the mean over tokens. A
    modality that was not given has no features (None), and without both there are none of the fusion encoder.
    """

    video: dict[int, Tensor] | None  # layer → tokens [B, N, C], after the encoder's last LayerNorm
    audio: dict[int, Tensor] | None  # layer → tokens [B, M, C]
    video_pooled: dict[int, Tensor] | None  # layer → [B, C]
    audio_pooled: dict[int, Tensor] | None
    fused_video: Tensor | None  # tokens [B, N, C]
    fused_audio: Tensor | None  # tokens [B, M, C]
    fused_video_pooled: Tensor | None  # [B, C]
    fused_audio_pooled: Tensor | None
    video_times: Tensor  # [N, 2]: begin and end of each token in seconds, see `token_times`
    audio_times: Tensor  # [M, 2]


class Scores(NamedTuple):
    """Answers of a fine-tuned model: probabilities of the classes `labels`, or values of the dimensions."""

    values: Tensor  # float32 [B, labels]
    labels: tuple[str, ...]


# --- Both models --------------------------------------------------------------------------------------------

# What both models do stands in a class without a base, so that `transformers` can put its own base under it.
_Module: Any = nn.Module if TYPE_CHECKING else object


class Behaviour(_Module):
    """The modules and the computation of a pre-training model, or of a fine-tuned one if there is a task.

    The pre-training model is the masked autoencoder of paper figure 2. The fine-tuned model has encoders, the
    fusion encoder, hierarchical feature fusion and a linear head (section 3.4).
    """

    geometry: Config
    task: Task | None

    def build(
        self, config: Config, task: Task | None = None, stride: int = STRIDE, frame_difference: bool = True
    ) -> None:
        """Add the modules. Frames of a clip lie `stride` frames apart; `frame_difference`: see `targets`."""
        self.geometry, self.task, self.stride, self.frame_difference = config, task, stride, frame_difference
        if task is not None:
            self._build_finetuned(config, task)
            return
        self.encoder, self.encoder_audio = Encoder(config, "video"), Encoder(config, "audio")
        self.encoder_fusion = Fusion(config)
        self.decoder, self.decoder_audio = Decoder(config, "video"), Decoder(config, "audio")
        initialise(nn.init.xavier_uniform_, *self.children())
        for suffix in ("", "_audio"):
            to_decoder = nn.Linear(config.encoder_dim, config.decoder_dim, bias=False)
            self.add_module(f"encoder_to_decoder{suffix}", to_decoder)
            token = nn.Parameter(torch.empty(1, 1, config.decoder_dim))
            nn.init.trunc_normal_(token, std=0.02, a=-0.02, b=0.02)
            self.register_parameter(f"mask_token{suffix}", token)

    def _build_finetuned(self, config: Config, task: Task) -> None:
        for name in MODALITIES[task.modality]:
            encoder = Encoder(config, name, task.drop_path)
            initialise(lambda weight: nn.init.trunc_normal_(weight, std=0.02), encoder)
            self.add_module(ENCODERS[name], encoder)
            if task.feature_fusion:
                even = torch.full((config.encoder_depth,), 1 / config.encoder_depth)
                self.register_parameter(f"{name}_layer_weights", nn.Parameter(even))
        if task.modality == "audio-visual":
            self.encoder_fusion = Fusion(config, task.drop_path)
            initialise(nn.init.xavier_uniform_, self.encoder_fusion)
        width = config.encoder_dim * (4 if task.modality == "audio-visual" else 1)
        self.fc_norm, self.head = nn.LayerNorm(width, EPSILON), nn.Linear(width, len(task.labels))

    def forward(
        self,
        video: Tensor | None,
        log_mel: Tensor | None,
        video_mask: Mask | None = None,
        audio_mask: Mask | None = None,
    ) -> Any:
        """Logits [B, outputs] of a fine-tuned model; or the `Output` of a pre-training model, given masks.

        `video` [B, T, H, W, 3] is uint8, or floating point in [0, 1]; `log_mel` [B, time, frequency] is
        normalised. A fine-tuned model of one modality ignores the other, which may be None.
        """
        if self.task is not None:
            return self.head(self.features(video, log_mel))
        if video is None or log_mel is None or video_mask is None or audio_mask is None:
            raise ValueError("a pre-training model needs both masks: for features, call extract_features")
        return self.reconstruct(video, log_mel, video_mask, audio_mask)

    def reconstruct(self, video: Tensor, log_mel: Tensor, video_mask: Mask, audio_mask: Mask) -> Output:
        """Encode the visible tokens and predict the masked ones: only those that a mask lists as masked."""
        config, depth = self.geometry, self.geometry.encoder_depth
        check_clips(config, video, log_mel)
        cubes, patches = tubelets(video, config), audio_patches(log_mel, config)
        layers = {*config.skip_layers, depth}
        seen = self.encoder(pixels(take(cubes, video_mask[0])), layers, video_mask[0])
        heard = self.encoder_audio(take(patches, audio_mask[0]), layers, audio_mask[0])
        video_stream, audio_stream = self.encoder_fusion(seen[depth], heard[depth])
        return Output(
            self.decode("", video_stream, seen, video_mask),
            self.decode("_audio", audio_stream, heard, audio_mask),
            targets(pixels(take(cubes, video_mask[1])), self.frame_difference),
            targets(take(patches, audio_mask[1])),
            tuple(seen[layer].mean(1) for layer in config.skip_layers),
            tuple(heard[layer].mean(1) for layer in config.skip_layers),
        )

    def decode(self, suffix: str, stream: Tensor, features: dict[int, Tensor], mask: Mask) -> Tensor:
        """Predict one modality, whose parameters end in `suffix`; stream and skips share one projection."""
        project, token = getattr(self, f"encoder_to_decoder{suffix}"), getattr(self, f"mask_token{suffix}")
        skips = [project(features[layer]) for layer in self.geometry.decoder_skips]
        return getattr(self, f"decoder{suffix}")(project(stream), skips, token, mask)

    def encode(self, name: str, clips: Tensor, layers: set[int]) -> dict[int, Tensor]:
        """All tokens of `video` or `audio` clips after each of some 1-based layers."""
        config = self.geometry
        patches = pixels(tubelets(clips, config)) if name == "video" else audio_patches(clips, config)
        return getattr(self, ENCODERS[name])(patches, layers)

    def features(self, video: Tensor | None, log_mel: Tensor | None) -> Tensor:
        """Normalised features [B, 4C] (video, audio, fused video, fused audio), or [B, C] of one modality."""
        task, depth = self._task(), self.geometry.encoder_depth
        parts, streams = [], []
        check_clips(self.geometry, video, log_mel)
        wanted = set(range(1, depth + 1)) if task.feature_fusion else {depth}
        for name in MODALITIES[task.modality]:
            clips = video if name == "video" else log_mel
            if clips is None:
                raise ValueError(f"modality {task.modality} needs {name}, which was not given")
            layers = self.encode(name, clips, wanted)
            pooled = torch.stack([feature.mean(1) for feature in layers.values()], -1)
            weights = getattr(self, f"{name}_layer_weights").softmax(0) if task.feature_fusion else 1
            parts.append((pooled * weights).sum(-1))
            streams.append(layers[depth])
        if len(streams) == 2:
            parts += [stream.mean(1) for stream in self.encoder_fusion(*streams)]
        return self.fc_norm(torch.cat(parts, -1))

    @torch.no_grad()
    def extract_features(self, video: Tensor | None, log_mel: Tensor | None) -> Features:
        """Features of all tokens, inputs as in `forward`; a modality may be None. No gradients."""
        config, depth = self.geometry, self.geometry.encoder_depth
        given = {name: clips for name, clips in (("video", video), ("audio", log_mel)) if clips is not None}
        known = [name for name in ENCODERS if hasattr(self, ENCODERS[name])]
        if not given or not set(given) <= set(known):
            what = " and ".join(given) or "nothing"
            raise ValueError(f"{what} was given; this model encodes {' and '.join(known)}")
        check_clips(config, video, log_mel)
        every = set(range(1, depth + 1))
        layers = {name: self.encode(name, clips, every) for name, clips in given.items()}
        pooled = {name: {k: x.mean(1) for k, x in found.items()} for name, found in layers.items()}
        fused: Any = (None, None)
        if len(given) == 2:
            fused = self.encoder_fusion(*(found[depth] for found in layers.values()))
        means = [None if stream is None else stream.mean(1) for stream in fused]
        streams = [layers.get("video"), layers.get("audio"), pooled.get("video"), pooled.get("audio")]
        return Features._make([*streams, *fused, *means, *token_times(config, self.stride)])

    @torch.no_grad()
    def scores(self, video: Tensor | None, log_mel: Tensor | None) -> Scores:
        """Probabilities of the classes, or values of the dimensions, of a fine-tuned model.

        If a model of both modalities is given one (the other None), the other becomes constant at the mean
        that normalisation subtracts, as in training with modality dropout. A model trained without it was
        never given such clips. It computes no gradients.
        """
        task, config = self._task(), self.geometry
        given = video if video is not None else log_mel
        if task.modality == "audio-visual" and given is not None:
            if video is None:
                mean = torch.tensor(PIXEL_MEAN, device=given.device)
                side = config.image_size
                video = mean.expand(len(given), config.frames, side, side, 3)
            if log_mel is None:
                log_mel = torch.zeros(len(given), config.audio_frames, config.audio_bins, device=given.device)
        logits = self.head(self.features(video, log_mel)).float()
        return Scores(logits if task.regression else logits.softmax(-1), task.labels)

    def preprocess(
        self, frames: Tensor | None, waveform: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Make model inputs of frames uint8 [B, T, H, W, 3] and sound [B, samples]; either may be None.

        The T frames are those of a clip: RGB, `stride` frames apart in a video of 25 frames a second, of the
        face alone. They are stretched to a square. The sound is that of the clip; see `log_mel`.
        """
        config = self.geometry
        if frames is not None and (frames.dim() != 5 or frames.shape[1] != config.frames):
            found = tuple(frames.shape)
            raise ValueError(
                f"frames have shape {found}; this model takes [B, {config.frames}, height, width, 3]"
            )
        video = None if frames is None else resize(frames, config.image_size)
        sizes = (config.audio_frames, config.audio_bins)
        return video, None if waveform is None else log_mel(waveform, *sizes)

    def _task(self) -> Task:
        if self.task is None:
            raise ValueError(
                "a pre-training model has no head: call extract_features, or load a fine-tuned one"
            )
        return self.task


class PretrainModel(Behaviour, nn.Module):
    """The pre-training model with initial weights."""

    def __init__(self, config: Config, frame_difference: bool = True) -> None:
        super().__init__()
        self.config = config
        self.build(config, frame_difference=frame_difference)


class FinetuneModel(Behaviour, nn.Module):
    """The fine-tuning model with initial weights; see `Task`."""

    def __init__(
        self,
        config: Config,
        outputs: int,
        modality: str = "audio-visual",
        feature_fusion: bool = True,
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        self.config = config
        labels = tuple(f"LABEL_{number}" for number in range(outputs))
        self.build(config, Task(labels, modality, feature_fusion, drop_path))


# --- Loss ---------------------------------------------------------------------------------------------------


def contrastive_logits(video: Tensor, audio: Tensor, temperature: float) -> Tensor:
    """Cosine similarities over the temperature of [..., N, C] features: float32 [..., N, N], row = video."""
    with torch.autocast(video.device.type, enabled=False):
        return F.normalize(video.float(), dim=-1) @ F.normalize(audio.float(), dim=-1).mT / temperature


def pretrain_loss(
    output: Output, temperature: float = 0.07, contrastive_weight: float = 0.0025, group: int | None = None
) -> dict[str, Tensor | list[Tensor]]:
    """Mean squared errors plus `contrastive_weight` × symmetric InfoNCE over levels (equations 8 to 11).

    The negatives of a clip are the others of its `group` of consecutive clips; None takes the whole batch.
    Returns float32 `total`, `video`, `audio`, `contrastive` (unweighted sum) and `contrastive_levels`.
    """
    video = F.mse_loss(output.video.float(), output.video_target)
    audio = F.mse_loss(output.audio.float(), output.audio_target)
    if group and len(output.video) % group:
        raise ValueError(f"batch {len(output.video)} is not a multiple of the negatives' group of {group}")
    levels = []
    for pair in zip(output.video_levels, output.audio_levels):
        seen, heard = (feature.unflatten(0, (-1, group or len(feature))) for feature in pair)
        logits = contrastive_logits(seen, heard, temperature)
        matched = logits.diagonal(dim1=-2, dim2=-1)
        levels.append(0.5 * (logits.logsumexp(-1) + logits.logsumexp(-2) - 2 * matched).mean())
    contrastive = sum(levels, start=torch.zeros_like(video))
    total = video + audio + contrastive_weight * contrastive
    terms = {"total": total, "video": video, "audio": audio, "contrastive": contrastive}
    return {**terms, "contrastive_levels": levels}


# --- Folders of weights -------------------------------------------------------------------------------------

CONFIG, WEIGHTS, CHECKPOINT, THIS_FILE = (
    "config.json",
    "model.safetensors",
    "checkpoint.pth",
    "hicmae_torch.py",
)
COMPANIONS = ("configuration_hicmae.py", "modeling_hicmae.py", "preprocessor_config.json", "LICENSE")
KINDS = ("pretraining", "finetuned")


def read_config(written: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `Behaviour.build` that `config.json` of a folder holds."""
    if written.get("model_type") != "hicmae" or written.get("kind") not in KINDS:
        raise ValueError("its model_type is not hicmae: it is not of a folder that hicmae_jax has exported")
    try:
        task, names = None, {str(number): name for number, name in written.get("id2label", {}).items()}
        if written["kind"] == "finetuned":
            labels = tuple(names[str(number)] for number in range(len(names)))
            others = ("modality", "feature_fusion", "drop_path", "regression")
            task = Task(labels, **{name: written[name] for name in others})
        config = Config(**{field.name: written[field.name] for field in fields(Config)})
        return {
            "config": config,
            "task": task,
            "stride": written["stride"],
            "frame_difference": written.get("frame_difference", True),
        }
    except KeyError as error:
        raise ValueError(f"it has no {error}: export the folder again") from None


def copy_companions(source: Path, folder: Path) -> None:
    """Copy this file into a folder of weights, and from another one what describes the clips and adapters."""
    shutil.copyfile(Path(__file__), folder / THIS_FILE)
    for name in COMPANIONS:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)


class HiCMAE(Behaviour, nn.Module):
    """HiCMAE of either kind, with folders of weights: `HiCMAE.from_pretrained("folder")`."""

    def __init__(
        self,
        config: Config,
        task: Task | None = None,
        stride: int = STRIDE,
        frame_difference: bool = True,
    ) -> None:
        super().__init__()
        self.config, self.source = config, Path(__file__).resolve().parent
        self.build(config, task, stride, frame_difference)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "HiCMAE":
        """Load a folder that `hicmae export` or `save_pretrained` has written, in evaluation mode, float32.

        It reads `model.safetensors` if `safetensors` is installed, otherwise `checkpoint.pth`.
        """
        folder = Path(folder)
        if not (folder / CONFIG).is_file():
            raise FileNotFoundError(f"{folder} is no folder of weights: it has no {CONFIG}")
        try:
            arguments = read_config(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
            with torch.device("meta"):
                model = cls(**arguments)
            model.load_state_dict(_read_weights(folder), assign=True)
        except (ValueError, TypeError, RuntimeError) as error:  # RuntimeError: names or shapes differ
            lines = " ".join(str(error).split())
            raise ValueError(f"{folder / CONFIG}: {lines}") from None
        model.source = folder
        return model.eval()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder that `from_pretrained`, `transformers` and hicmae_jax load; float32.

        The adapters for `transformers` are copied from the folder of this model, or from beside this file.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if taken := [name for name in (CONFIG, WEIGHTS, CHECKPOINT) if (folder / name).exists()]:
            raise FileExistsError(f"{folder} has a {taken[0]}: choose another folder")
        state = {name: value.detach().float().cpu().contiguous() for name, value in self.state_dict().items()}
        torch.save({"model": state}, folder / CHECKPOINT)
        try:
            from safetensors.torch import save_file
        except ImportError:
            pass
        else:
            save_file(state, folder / WEIGHTS, {"format": "pt"})
        (folder / CONFIG).write_text(json.dumps(self.to_json(), indent=2) + "\n", encoding="utf-8")
        copy_companions(self.source, folder)

    def to_json(self) -> dict[str, Any]:
        """What `config.json` says of this model."""
        written: dict[str, Any] = {
            "model_type": "hicmae",
            "architectures": ["HiCMAEModel"],
            "auto_map": {
                "AutoConfig": "configuration_hicmae.HiCMAEConfig",
                "AutoModel": "modeling_hicmae.HiCMAEModel",
            },
            "dtype": "float32",
            "kind": KINDS[self.task is not None],
            **asdict(self.geometry),
            "stride": self.stride,
            "frame_difference": self.frame_difference,
        }
        if self.task is not None:
            task = asdict(self.task)
            labels = task.pop("labels")
            written |= task
            written["id2label"] = {str(number): label for number, label in enumerate(labels)}
            written["label2id"] = {label: number for number, label in enumerate(labels)}
        return written

    def push_to_hub(self, repo_id: str) -> None:
        """Upload the folder of this model to a repository of the Hugging Face Hub, which may be new."""
        try:
            import huggingface_hub
        except ImportError:
            raise ImportError("push_to_hub needs huggingface_hub: pip install huggingface_hub") from None
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            huggingface_hub.create_repo(repo_id, exist_ok=True)
            huggingface_hub.upload_folder(repo_id=repo_id, folder_path=folder)


def _read_weights(folder: Path) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError:
        if not (folder / CHECKPOINT).is_file():
            raise ValueError(f"no {CHECKPOINT} there: pip install safetensors, to read {WEIGHTS}") from None
    else:
        if (folder / WEIGHTS).is_file():
            return load_file(folder / WEIGHTS)
        if not (folder / CHECKPOINT).is_file():
            raise ValueError(f"neither {WEIGHTS} nor {CHECKPOINT} lies beside it: copy the whole folder")
    return torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True)["model"]
