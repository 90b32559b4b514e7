"""Print what every model size costs: `python -m launch.sizes [--size B] [--remat full]`."""

from collections.abc import Sequence

from absl import app, flags

from hicmae_jax import config, costs, sizes

_SIZE = flags.DEFINE_enum("size", None, list(sizes.SIZES), "one size, with its components; default: all")
_REMAT = flags.DEFINE_enum("remat", "none", config.REMAT, "what the backward pass recomputes, everywhere")
_DTYPE = flags.DEFINE_enum("dtype", "bfloat16", config.DTYPES, "of the computation, for activation memory")


def model_config(size: str) -> config.ModelConfig:
    """The named size under the flags' execution choices."""
    choices = dict.fromkeys(("remat_encoder", "remat_fusion", "remat_decoder"), _REMAT.value)
    return sizes.model_config(size, dtype=_DTYPE.value, **choices)


def overview(names: Sequence[str]) -> str:
    """Table of all sizes: widths, taps, parameters, arithmetic, activation memory."""
    lines = [
        f"{'size':>4} {'encoder':>13} {'decoder':>8} {'taps':>12} {'pre-training':>12} {'fine-tuning':>11} "
        f"{'forward':>8} {'training':>8} {'kept':>7}",
        f"{'':>4} {'width × depth':>13} {'width':>8} {'':>12} {'M params':>12} {'M params':>11} "
        f"{'GFLOP':>8} {'GFLOP':>8} {'MB':>7}",
    ]
    masks = config.MaskConfig()
    for name in names:
        model = model_config(name)
        count = costs.flops(model, masks)
        lines.append(
            f"{name:>4} {model.encoder_dim:>5} × {model.encoder_depth:<5} {model.decoder_dim:>8} "
            f"{', '.join(map(str, model.skip_layers)):>12} "
            f"{costs.pretrain_parameters(model, masks) / 1e6:>12.2f} "
            f"{costs.finetune_parameters(model, config.FinetuneConfig(outputs=11)) / 1e6:>11.2f} "
            f"{sum(count.forward.values()) / 1e9:>8.1f} {sum(count.training.values()) / 1e9:>8.1f} "
            f"{costs.activation_bytes(model, masks) / 1e6:>7.1f}"
        )
    lines.append(
        f"FLOP: 2 a multiply-add, matrix products only, a clip. Kept: bytes a clip from the forward to the "
        f"backward pass, {_DTYPE.value}, remat {_REMAT.value}."
    )
    return "\n".join(lines)


def components(name: str) -> str:
    """Table of one size: arithmetic by component."""
    count = costs.flops(model_config(name), config.MaskConfig())
    total = sum(count.training.values())
    lines = [f"{'component':>20} {'forward GFLOP':>13} {'training GFLOP':>14} {'share':>6}"]
    for part, forward in count.forward.items():
        training = count.training[part]
        lines.append(f"{part:>20} {forward / 1e9:>13.2f} {training / 1e9:>14.2f} {training / total:>6.1%}")
    lines.append(f"{'all':>20} {sum(count.forward.values()) / 1e9:>13.2f} {total / 1e9:>14.2f} {1:>6.1%}")
    return "\n".join(lines)


def main(argv: Sequence[str]) -> None:
    """Print the tables."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    print(overview([_SIZE.value] if _SIZE.value else list(sizes.SIZES)))
    if _SIZE.value:
        print()
        print(components(_SIZE.value))


if __name__ == "__main__":
    app.run(main)
