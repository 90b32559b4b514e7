"""Names and shapes in the published checkpoints, made by their rules without our code."""

Shapes = dict[str, tuple[int, ...]]


def _linear(name: str, outputs: int, inputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, dim: int) -> Shapes:
    return {f"{name}.weight": (dim,), f"{name}.bias": (dim,)}


def _block(name: str, dim: int, cross: bool) -> Shapes:
    names = {
        **_norm(f"{name}.norm1", dim),
        f"{name}.attn.q_bias": (dim,),
        f"{name}.attn.v_bias": (dim,),
        f"{name}.attn.qkv.weight": (3 * dim, dim),
        **_linear(f"{name}.attn.proj", dim, dim),
        **_norm(f"{name}.norm2", dim),
        **_linear(f"{name}.mlp.fc1", 4 * dim, dim),
        **_linear(f"{name}.mlp.fc2", dim, 4 * dim),
    }
    if cross:
        names |= {
            f"{name}.cross_attn.q_bias": (dim,),
            f"{name}.cross_attn.v_bias": (dim,),
            f"{name}.cross_attn.q.weight": (dim, dim),
            f"{name}.cross_attn.kv.weight": (2 * dim, dim),
            **_linear(f"{name}.cross_attn.proj", dim, dim),
            **_norm(f"{name}.cross_norm1", dim),
            **_norm(f"{name}.cross_norm2", dim),
        }
    return names


def encoder(name: str, dim: int, depth: int, patch: tuple[int, ...]) -> Shapes:
    """An encoder whose patch embedding is a convolution of kernel `patch`, channels first."""
    names = {f"{name}.patch_embed.proj.weight": (dim, *patch), f"{name}.patch_embed.proj.bias": (dim,)}
    for i in range(depth):
        names |= _block(f"{name}.blocks.{i}", dim, cross=False)
    return names | _norm(f"{name}.norm", dim)


def fusion(dim: int, depth: int) -> Shapes:
    names = {}
    for suffix in ("", "_audio"):
        for i in range(depth):
            names |= _block(f"encoder_fusion.blocks{suffix}.{i}", dim, cross=True)
        names |= _norm(f"encoder_fusion.norm{suffix}", dim)
    return names


def encoders_and_fusion(dim: int, depth: int, fusion_depth: int) -> Shapes:
    return (
        encoder("encoder", dim, depth, (3, 2, 16, 16))
        | encoder("encoder_audio", dim, depth, (1, 16, 16))
        | fusion(dim, fusion_depth)
    )


def pretrain(dim: int, depth: int, fusion_depth: int, width: int, crossed: list[bool]) -> Shapes:
    """A pre-training model; `crossed` says which of its decoder blocks are cross blocks."""
    names = encoders_and_fusion(dim, depth, fusion_depth)
    for suffix, values in (("", 1536), ("_audio", 256)):
        names |= {
            f"mask_token{suffix}": (1, 1, width),
            f"encoder_to_decoder{suffix}.weight": (width, dim),
        }
        for i, cross in enumerate(crossed):
            names |= _block(f"decoder{suffix}.blocks.{i}", width, cross)
        names |= _norm(f"decoder{suffix}.norm", width) | _linear(f"decoder{suffix}.head", values, width)
    return names


def finetune(dim: int, depth: int, fusion_depth: int, outputs: int) -> Shapes:
    return {
        "video_layer_weights": (depth,),
        "audio_layer_weights": (depth,),
        **encoders_and_fusion(dim, depth, fusion_depth),
        **_norm("fc_norm", 4 * dim),
        **_linear("head", outputs, 4 * dim),
    }


def finetune_alone(name: str, dim: int, depth: int, outputs: int) -> Shapes:
    """A fine-tuning model of one modality, `video` or `audio`."""
    stack = (
        encoder("encoder", dim, depth, (3, 2, 16, 16))
        if name == "video"
        else encoder("encoder_audio", dim, depth, (1, 16, 16))
    )
    head = {**_norm("fc_norm", dim), **_linear("head", outputs, dim)}
    return {f"{name}_layer_weights": (depth,), **stack, **head}
