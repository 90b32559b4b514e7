"""HiCMAE in one file of PyTorch: copy it anywhere, it needs nothing but `torch`.

Pre-training with its losses, and fine-tuning (arXiv 2401.05698). Parameters have the published names.

    model = PretrainModel(Config())
    output = model(video, log_mel, (video_visible, video_masked), (audio_visible, audio_masked))
    pretrain_loss(output)["total"].backward()

Only visible tokens are embedded. Targets, the last decoder block and the heads cover masked tokens only.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-6  # of every LayerNorm and of the targets' standard deviation
PIXEL_MEAN, PIXEL_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet
FLOWS = ("default", "raw-input", "video-first", "audio-first")
SKIP_ORDERS = ("deepest-first", "shallowest-first")
MODALITIES = {"audio-visual": ("video", "audio"), "video": ("video",), "audio": ("audio",)}
ENCODERS = {"video": "encoder", "audio": "encoder_audio"}
Mask = tuple[Tensor, Tensor]  # int [B, visible] and [B, masked]: flat token indices


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


def tubelets(video: Tensor, config: Config) -> Tensor:
    """Cut [B, T, H, W, 3] into [B, tokens, tubelet, patch, patch, 3], ordered by time, height, width."""
    (t, p), side = (config.tubelet, config.patch), (config.image_size // config.patch, config.patch)
    grid = video.unflatten(1, (config.frames // t, t)).unflatten(3, side).unflatten(5, side)
    return grid.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(len(video), -1, t, p, p, 3)


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
    channel = torch.arange(dim)
    angle = torch.arange(tokens)[:, None] * 10000.0 ** (-2 * (channel // 2).double() / dim)
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos()).float()


class Encoder(nn.Module):
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
        self.register_buffer("positions", positions(config, modality, dim), persistent=False)
        self.register_buffer("pixel_mean", torch.tensor(PIXEL_MEAN), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(PIXEL_STD), persistent=False)

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


class Decoder(nn.Module):
    """One modality's decoder (section 3.1.3)."""

    positions: Tensor

    def __init__(self, config: Config, modality: str) -> None:
        super().__init__()
        dim, heads, area = config.decoder_dim, config.decoder_heads, config.patch**2
        cross = (0 < k <= len(config.decoder_skips) for k in range(config.decoder_depth))
        self.blocks = nn.ModuleList(Block(dim, heads, cross=has_skip) for has_skip in cross)
        self.norm = nn.LayerNorm(dim, EPSILON)
        self.head = nn.Linear(dim, config.tubelet * area * 3 if modality == "video" else area)
        self.register_buffer("positions", positions(config, modality, dim), persistent=False)

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


class Output(NamedTuple):
    """Output of `PretrainModel`; levels are in `skip_layers` order."""

    video: Tensor  # predictions [B, masked tubelets, values]
    audio: Tensor  # predictions [B, masked patches, values]
    video_target: Tensor  # float32, shaped like the predictions
    audio_target: Tensor
    video_levels: tuple[Tensor, ...]  # [B, C], means over visible tokens
    audio_levels: tuple[Tensor, ...]


class PretrainModel(nn.Module):
    """Masked autoencoder of both modalities (paper figure 2)."""

    def __init__(self, config: Config, frame_difference: bool = True) -> None:
        super().__init__()
        self.config, self.frame_difference = config, frame_difference
        self.encoder, self.encoder_audio = Encoder(config, "video"), Encoder(config, "audio")
        self.encoder_fusion = Fusion(config)
        self.decoder, self.decoder_audio = Decoder(config, "video"), Decoder(config, "audio")
        initialise(nn.init.xavier_uniform_, *self.children())
        for suffix in ("", "_audio"):
            to_decoder = nn.Linear(config.encoder_dim, config.decoder_dim, bias=False)
            self.add_module(f"encoder_to_decoder{suffix}", to_decoder)
            token = nn.init.trunc_normal_(torch.empty(1, 1, config.decoder_dim), std=0.02, a=-0.02, b=0.02)
            self.register_parameter(f"mask_token{suffix}", nn.Parameter(token))

    def forward(self, video: Tensor, log_mel: Tensor, video_mask: Mask, audio_mask: Mask) -> Output:
        """Encode the visible tokens and predict the masked ones.

        `video` [B, T, H, W, 3] is uint8, or floating point in [0, 1]; `log_mel` [B, time, frequency] is
        normalised. Only the tokens that a mask lists as masked are decoded.
        """
        config, depth = self.config, self.config.encoder_depth
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
        skips = [project(features[layer]) for layer in self.config.decoder_skips]
        return getattr(self, f"decoder{suffix}")(project(stream), skips, token, mask)


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


class FinetuneModel(nn.Module):
    """Encoders, fusion encoder, hierarchical feature fusion and a linear head (section 3.4).

    `modality` is `audio-visual`, `video` or `audio`; the last two have no fusion encoder. With
    `feature_fusion`, features of all encoder layers are summed with learned weights; otherwise the last layer
    is used. Stochastic depth rises linearly from 0 to `drop_path` in each stack.
    """

    def __init__(
        self,
        config: Config,
        outputs: int,
        modality: str = "audio-visual",
        feature_fusion: bool = True,
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        if modality not in MODALITIES:
            raise ValueError(f"modality {modality!r}: choose one of {', '.join(MODALITIES)}")
        self.config, self.feature_fusion, self.modalities = config, feature_fusion, MODALITIES[modality]
        for name in self.modalities:
            encoder = Encoder(config, name, drop_path)
            initialise(lambda weight: nn.init.trunc_normal_(weight, std=0.02), encoder)
            self.add_module(ENCODERS[name], encoder)
            if feature_fusion:
                even = torch.full((config.encoder_depth,), 1 / config.encoder_depth)
                self.register_parameter(f"{name}_layer_weights", nn.Parameter(even))
        if len(self.modalities) == 2:
            self.encoder_fusion = Fusion(config, drop_path)
            initialise(nn.init.xavier_uniform_, self.encoder_fusion)
        width = config.encoder_dim * (4 if len(self.modalities) == 2 else 1)
        self.fc_norm, self.head = nn.LayerNorm(width, EPSILON), nn.Linear(width, outputs)

    def features(self, video: Tensor | None, log_mel: Tensor | None) -> Tensor:
        """Normalised features [B, 4C] (video, audio, fused video, fused audio), or [B, C] of one modality."""
        config, depth, parts, streams = self.config, self.config.encoder_depth, [], []
        wanted = set(range(1, depth + 1)) if self.feature_fusion else {depth}
        for name in self.modalities:
            clips: Any = video if name == "video" else log_mel
            patches = pixels(tubelets(clips, config)) if name == "video" else audio_patches(clips, config)
            layers = getattr(self, ENCODERS[name])(patches, wanted)
            pooled = torch.stack([feature.mean(1) for feature in layers.values()], -1)
            weights = getattr(self, f"{name}_layer_weights").softmax(0) if self.feature_fusion else 1
            parts.append((pooled * weights).sum(-1))
            streams.append(layers[depth])
        if len(streams) == 2:
            parts += [stream.mean(1) for stream in self.encoder_fusion(*streams)]
        return self.fc_norm(torch.cat(parts, -1))

    def forward(self, video: Tensor | None, log_mel: Tensor | None) -> Tensor:
        """Logits [B, outputs]; inputs as in `PretrainModel`, or None for a modality that the model lacks."""
        return self.head(self.features(video, log_mel))
