"""HiCMAE in one file of PyTorch: copy it anywhere, it needs nothing but `torch`.

The pre-training model, its losses and the fine-tuning model of arXiv 2401.05698 under the parameter names
of the published checkpoints, so `load_state_dict` takes those and this project's exports alike.

    model = PretrainModel(Config())
    output = model(video, log_mel, (video_visible, video_masked), (audio_visible, audio_masked))
    pretrain_loss(output)["total"].backward()

No more is computed than the objective asks for: only visible tubelets are embedded, only masked ones become
targets, and the last decoder block and the heads run on masked rows alone. Tokens are picked by index
gathers, so all shapes are static.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-6  # of every LayerNorm and of the targets' standard deviation
PIXEL_MEAN, PIXEL_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet
FLOWS = ("default", "raw-input", "video-first", "audio-first")
SKIP_ORDERS = ("deepest-first", "shallowest-first")
MODALITIES = ("audio-visual", "video", "audio")

Mask = tuple[Tensor, Tensor]  # int [B, visible] and [B, masked]: flat token indices


@dataclass(frozen=True)
class Config:
    """Geometry, widths and wiring (paper sections 3.1 and 4.5); the defaults are HiCMAE-B.

    Clips are `frames` × `image_size`² pixels cut into `tubelet` × `patch`² tubelets, spectrograms
    `audio_frames` × `audio_bins` cut into `patch`² patches. `skip_layers` (1-based, ascending) are the
    encoder layers that the contrastive loss compares and, with `skip_connections`, decoder blocks 2, 3, …
    attend to: `deepest-first` as the published code has it, `shallowest-first` as the paper's text. With
    `fusion_depth` 0 only the fusion encoder's two final LayerNorms remain; `fusion_flow` is paper table 16.
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
        """Raise ValueError naming every broken rule."""
        layers, depth = self.skip_layers, self.encoder_depth
        multiples = {"frames": "tubelet", "encoder_dim": "encoder_heads", "decoder_dim": "decoder_heads"}
        multiples |= dict.fromkeys(("image_size", "audio_frames", "audio_bins"), "patch")
        rules = {
            f"{a} a multiple of {b}": getattr(self, a) % getattr(self, b) == 0 for a, b in multiples.items()
        }
        rules |= {
            "skip_layers ascending within 1 … encoder_depth": layers
            == tuple(sorted({*layers} & {*range(1, depth + 1)})),
            "decoder_depth more than the skips": len(self.decoder_skips) < self.decoder_depth,
            f"fusion_flow one of {FLOWS}": self.fusion_flow in FLOWS,
            f"skip_order one of {SKIP_ORDERS}": self.skip_order in SKIP_ORDERS,
        }
        if not all(rules.values()):
            raise ValueError(
                f"need {', '.join(rule for rule, holds in rules.items() if not holds)}; got {self}"
            )

    @property
    def decoder_skips(self) -> tuple[int, ...]:
        """Encoder layers that decoder blocks 2, 3, … attend to, in the decoder's order."""
        step = -1 if self.skip_order == "deepest-first" else 1
        return self.skip_layers[::step] if self.skip_connections else ()

    def tokens(self, modality: str) -> int:
        """Tokens of a clip."""
        video = self.frames // self.tubelet * (self.image_size // self.patch) ** 2
        return video if modality == "video" else self.audio_frames * self.audio_bins // self.patch**2


def tubelets(video: Tensor, config: Config) -> Tensor:
    """Cut [B, T, H, W, 3] into [B, tokens, tubelet, patch, patch, 3], ordered by time, height, width."""
    (B, T, H, W, _), t, p = video.shape, config.tubelet, config.patch
    grid = video.reshape(B, T // t, t, H // p, p, W // p, p, 3)
    return grid.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(B, -1, t, p, p, 3)


def audio_patches(log_mel: Tensor, config: Config) -> Tensor:
    """Cut [B, time, frequency] into [B, tokens, patch, patch, 1], ordered by time, frequency."""
    (B, time, bins), p = log_mel.shape, config.patch
    return log_mel.float().reshape(B, time // p, p, bins // p, p).transpose(2, 3).reshape(B, -1, p, p, 1)


def take(tokens: Tensor, index: Tensor) -> Tensor:
    """Tokens `index` [B, N] of each clip of [B, tokens, ...]."""
    return tokens[torch.arange(len(index), device=index.device)[:, None], index]


def pixels(values: Tensor) -> Tensor:
    """Pixels as float32 in [0, 1]; floats are taken to be there already."""
    return values.float() / 255 if values.dtype == torch.uint8 else values.float()


def normalise(values: Tensor) -> Tensor:
    """ImageNet normalisation, channels last."""
    return (values - values.new_tensor(PIXEL_MEAN)) / values.new_tensor(PIXEL_STD)


@torch.no_grad()
def targets(patches: Tensor, frame_difference: bool = False) -> Tensor:
    """What to reconstruct (section 3.1.3): float32 [B, N, ..., channels] → [B, N, values].

    Each channel of a token is standardised with the unbiased deviation; then, with `frame_difference`,
    every frame (dimension 2) but a tubelet's first becomes its change from the frame before.
    """
    std, mean = torch.std_mean(patches, tuple(range(2, patches.dim() - 1)), keepdim=True)
    values = (patches - mean) / (std + EPSILON)
    if frame_difference:
        values = torch.cat([values[:, :, :1], values[:, :, 1:] - values[:, :, :-1]], 2)
    return values.flatten(2)


class Attention(nn.Module):
    """Attention with query and value biases and no key bias, over the tokens themselves or a context."""

    def __init__(self, dim: int, heads: int, cross: bool = False) -> None:
        super().__init__()
        self.heads, self.cross = heads, cross
        self.q_bias = nn.Parameter(torch.zeros(dim))
        self.v_bias = nn.Parameter(torch.zeros(dim))
        for name, parts in {"q": 1, "kv": 2}.items() if cross else [("qkv", 3)]:
            self.add_module(name, nn.Linear(dim, parts * dim, bias=False))
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """[B, N, C] over [B, M, C] → [B, N, C]; heads are contiguous blocks of channels."""
        dim, no_bias = x.shape[-1], torch.zeros_like(self.v_bias)
        if x is context:  # all three projections in one product
            bias = torch.cat([self.q_bias, no_bias, self.v_bias])
            query_key_value = F.linear(x, self.qkv.weight, bias).chunk(3, -1)
        else:
            q, kv = (self.q.weight, self.kv.weight) if self.cross else self.qkv.weight.split([dim, 2 * dim])
            key_value = F.linear(context, kv, torch.cat([no_bias, self.v_bias]))
            query_key_value = F.linear(x, q, self.q_bias), *key_value.chunk(2, -1)
        heads = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in query_key_value)
        return self.proj(F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Pre-norm Transformer block, with `cross` one that first attends to a context with its own LayerNorm.

    `drop_path` is the rate at which a clip skips a residual branch in training.
    """

    def __init__(self, dim: int, heads: int, drop_path: float = 0.0, cross: bool = False) -> None:
        super().__init__()
        self.drop_path, self.cross = drop_path, cross
        if cross:
            self.cross_norm1 = nn.LayerNorm(dim, EPSILON)
            self.cross_norm2 = nn.LayerNorm(dim, EPSILON)
            self.cross_attn = Attention(dim, heads, cross=True)
        self.norm1 = nn.LayerNorm(dim, EPSILON)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, EPSILON)
        mlp = {"fc1": nn.Linear(dim, 4 * dim), "gelu": nn.GELU(), "fc2": nn.Linear(4 * dim, dim)}
        self.mlp = nn.Sequential(OrderedDict(mlp))

    def drop(self, branch: Tensor) -> Tensor:
        """In training, drop the branch of whole clips and scale up the survivors'."""
        if not self.training or self.drop_path == 0:
            return branch
        keep = 1 - self.drop_path
        return branch * branch.new_empty(len(branch), 1, 1).bernoulli_(keep) / keep

    def forward(self, x: Tensor, context: Tensor | None = None, rows: int = 0) -> Tensor:
        """[B, N, C], over [B, M, C] → [B, N, C], or [B, rows, C] if only the last `rows` are wanted."""
        if self.cross:
            x = x + self.drop(self.cross_attn(self.cross_norm1(x), self.cross_norm2(context)))
        normed = self.norm1(x)  # every row serves as key and value, whichever are wanted
        x = x[:, -rows:] + self.drop(self.attn(normed[:, -rows:] if rows else normed, normed))
        return x + self.drop(self.mlp(self.norm2(x)))


def blocks(depth: int, dim: int, heads: int, drop_path: float, cross: bool = False) -> nn.ModuleList:
    """A stack whose stochastic depth rises linearly from 0 to `drop_path`."""
    rates = torch.linspace(0, drop_path, depth).tolist()
    return nn.ModuleList(Block(dim, heads, rate, cross) for rate in rates)


def positions(tokens: int, dim: int) -> Tensor:
    """Fixed float32 [tokens, dim] positions: sine on even channels, cosine on odd."""
    channel = torch.arange(dim)
    angle = torch.arange(tokens)[:, None] * 10000.0 ** (-2 * (channel // 2).double() / dim)
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos()).float()


class Encoder(nn.Module):
    """One modality's encoder (section 3.1.2)."""

    def __init__(self, config: Config, modality: str, drop_path: float = 0.0) -> None:
        super().__init__()
        dim, p = config.encoder_dim, config.patch
        # Stored as the convolution that the published weights are; its stride is its kernel: a linear map.
        proj = nn.Conv3d(3, dim, (config.tubelet, p, p)) if modality == "video" else nn.Conv2d(1, dim, (p, p))
        self.patch_embed = nn.ModuleDict({"proj": proj})
        self.blocks = blocks(config.encoder_depth, dim, config.encoder_heads, drop_path)
        self.norm = nn.LayerNorm(dim, EPSILON)
        self.register_buffer("positions", positions(config.tokens(modality), dim), persistent=False)

    def forward(self, patches: Tensor, layers: set[int], index: Tensor | None = None) -> dict[int, Tensor]:
        """Encode tokens.

        Args:
            patches: [B, N, *patch, channels].
            layers: 1-based layers whose features [B, N, C] are wanted; one LayerNorm serves them all.
            index: int [B, N], which tokens these are; all of them by default.
        """
        proj, features = self.patch_embed["proj"], {}
        x = F.linear(patches.flatten(2), proj.weight.movedim(1, -1).flatten(1), proj.bias)
        x = x + (self.positions if index is None else self.positions[index])
        for layer, block in enumerate(self.blocks, 1):
            x = block(x)
            if layer in layers:
                features[layer] = self.norm(x)
        return features


class Fusion(nn.Module):
    """Cross-modal fusion encoder: each stream attends to the other (equations 3 to 6)."""

    def __init__(self, config: Config, drop_path: float = 0.0) -> None:
        super().__init__()
        dim, self.flow = config.encoder_dim, config.fusion_flow
        sizes = (config.fusion_depth, dim, config.encoder_heads, drop_path)
        self.blocks, self.blocks_audio = blocks(*sizes, cross=True), blocks(*sizes, cross=True)
        self.norm, self.norm_audio = nn.LayerNorm(dim, EPSILON), nn.LayerNorm(dim, EPSILON)

    def forward(self, video: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """[B, N, C] and [B, M, C] → the same shapes."""
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

    def __init__(self, config: Config, modality: str) -> None:
        super().__init__()
        dim, area = config.decoder_dim, config.patch**2
        kinds = (0 < k <= len(config.decoder_skips) for k in range(config.decoder_depth))
        self.blocks = nn.ModuleList(Block(dim, config.decoder_heads, cross=cross) for cross in kinds)
        self.norm = nn.LayerNorm(dim, EPSILON)
        self.head = nn.Linear(dim, config.tubelet * area * 3 if modality == "video" else area)
        self.register_buffer("positions", positions(config.tokens(modality), dim), persistent=False)

    def forward(self, stream: Tensor, skips: list[Tensor], mask_token: Tensor, mask: Mask) -> Tensor:
        """[B, visible, C_d] stream and skips of blocks 2, 3, … → predictions [B, masked, values]."""
        visible, masked = (self.positions[index] for index in mask)
        x = torch.cat([stream + visible, mask_token + masked], 1)
        for k, block in enumerate(self.blocks):
            rows = masked.shape[1] if k + 1 == len(self.blocks) else 0
            x = block(x, skips[k - 1] + visible if block.cross else None, rows)
        return self.head(self.norm(x))


@torch.no_grad()
def initialise(draw: Callable[[Tensor], Tensor], *stacks: nn.Module) -> None:
    """Draw the linears' weights, qkv and kv as the stacked matrices they are; zero their biases."""
    for layer in (layer for stack in stacks for layer in stack.modules() if isinstance(layer, nn.Linear)):
        draw(layer.weight)
        if layer.bias is not None:
            layer.bias.zero_()


class Output(NamedTuple):
    """What `PretrainModel` gives; levels are in `skip_layers` order."""

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
        """Encode what is visible, predict what is masked.

        Args:
            video: [B, T, H, W, 3], uint8 or floating point in [0, 1]; ImageNet normalisation is done here.
            log_mel: [B, time, frequency], already normalised.
            video_mask: visible and masked tokens; given a subset of the masked, only that is decoded.
            audio_mask: likewise.
        """
        config, depth = self.config, self.config.encoder_depth
        cubes, patches = tubelets(video, config), audio_patches(log_mel, config)
        layers = {*config.skip_layers, depth}
        seen = self.encoder(normalise(pixels(take(cubes, video_mask[0]))), layers, video_mask[0])
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
        """Predictions of the modality whose parameters end in `suffix`; one map serves stream and skips."""
        names = ("decoder", "encoder_to_decoder", "mask_token")
        decoder, to_decoder, mask_token = (getattr(self, name + suffix) for name in names)
        skips = [to_decoder(features[layer]) for layer in self.config.decoder_skips]
        return decoder(to_decoder(stream), skips, mask_token, mask)


def contrastive_logits(video: Tensor, audio: Tensor, temperature: float) -> Tensor:
    """Cosine similarities over the temperature of [..., N, C] features: float32 [..., N, N], row = video."""
    with torch.autocast(video.device.type, enabled=False):
        return F.normalize(video.float(), dim=-1) @ F.normalize(audio.float(), dim=-1).mT / temperature


def pretrain_loss(
    output: Output, temperature: float = 0.07, contrastive_weight: float = 0.0025, group: int | None = None
) -> dict[str, Tensor]:
    """Mean squared errors plus the weighted sum over levels of symmetric InfoNCE (equations 8 to 11).

    Args:
        output: of `PretrainModel`.
        temperature: τ of equation 9.
        contrastive_weight: λ of equation 11.
        group: consecutive clips that are each other's negatives, dividing the batch; None for all.

    Returns:
        float32 scalars `total`, `video`, `audio`, `contrastive` (unweighted sum) and `contrastive_levels`.
    """
    video = F.mse_loss(output.video.float(), output.video_target)
    audio = F.mse_loss(output.audio.float(), output.audio_target)
    levels = []
    for pair in zip(output.video_levels, output.audio_levels):
        groups = (feature.unflatten(0, (-1, group or len(feature))) for feature in pair)
        logits = contrastive_logits(*groups, temperature)
        matched = logits.diagonal(dim1=-2, dim2=-1)
        levels.append(0.5 * (logits.logsumexp(-1) + logits.logsumexp(-2) - 2 * matched).mean())
    contrastive = torch.stack(levels) if levels else video.new_zeros(0)
    total = video + audio + contrastive_weight * contrastive.sum()
    terms = {"total": total, "video": video, "audio": audio}
    return {**terms, "contrastive": contrastive.sum(), "contrastive_levels": contrastive}


class FinetuneModel(nn.Module):
    """Encoders, fusion and hierarchical feature fusion under a linear head (section 3.4).

    Args:
        config: its decoder fields are not used.
        outputs: emotion classes, or dimensions of a regression.
        modality: `audio-visual`, or one alone, which has no fusion encoder.
        feature_fusion: learned weighting of all encoder layers; off, the last layer alone.
        drop_path: stochastic depth of the last block of each stack, rising linearly from 0.
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
            raise ValueError(f"modality {modality!r}: choose one of {MODALITIES}")
        self.config, self.feature_fusion = config, feature_fusion
        self.modalities = modality.replace("visual", "video").split("-")
        for name in self.modalities:
            encoder = Encoder(config, name, drop_path)
            initialise(lambda weight: nn.init.trunc_normal_(weight, std=0.02), encoder)
            self.add_module("encoder" if name == "video" else "encoder_audio", encoder)
            if feature_fusion:
                even = torch.full((config.encoder_depth,), 1 / config.encoder_depth)
                self.register_parameter(f"{name}_layer_weights", nn.Parameter(even))
        width = config.encoder_dim
        if len(self.modalities) == 2:
            width *= 4
            self.encoder_fusion = Fusion(config, drop_path)
            initialise(nn.init.xavier_uniform_, self.encoder_fusion)
        self.fc_norm = nn.LayerNorm(width, EPSILON)
        self.head = nn.Linear(width, outputs)

    def encode(self, modality: str, patches: Tensor) -> tuple[Tensor, Tensor]:
        """The modality's feature [B, C] and its last layer's tokens."""
        depth = self.config.encoder_depth
        encoder = self.encoder if modality == "video" else self.encoder_audio
        layers = encoder(patches, set(range(1, depth + 1)) if self.feature_fusion else {depth})
        pooled = torch.stack([layer.mean(1) for layer in layers.values()], -1)
        if not self.feature_fusion:
            return pooled[..., 0], layers[depth]
        return pooled @ getattr(self, f"{modality}_layer_weights").softmax(0), layers[depth]

    def features(self, video: Tensor | None, log_mel: Tensor | None) -> Tensor:
        """Normalised features [B, 4C] (video, audio, fused video, fused audio), or [B, C] of one modality."""
        encoded = []
        if "video" in self.modalities:
            encoded.append(self.encode("video", normalise(pixels(tubelets(video, self.config)))))
        if "audio" in self.modalities:
            encoded.append(self.encode("audio", audio_patches(log_mel, self.config)))
        parts = [feature for feature, _ in encoded]
        if len(encoded) == 2:
            parts += [stream.mean(1) for stream in self.encoder_fusion(encoded[0][1], encoded[1][1])]
        return self.fc_norm(torch.cat(parts, -1))

    def forward(self, video: Tensor | None, log_mel: Tensor | None) -> Tensor:
        """Logits [B, outputs]; inputs as in `PretrainModel`, None for a modality the model lacks."""
        return self.head(self.features(video, log_mel))
