"""Print what every model size costs: `python -m launch.sizes [--size B] [--remat full]`."""

from collections.abc import Iterator, Sequence

import jax
from absl import flags

from hicmae_jax.aot.activations import activation_bytes
from hicmae_jax.model import config, shapes, sizes
from hicmae_jax.model.flops import flops
from launch import command

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Declare the command line; only when run, so that other commands may use the same names."""
    flags.DEFINE_enum("size", None, list(sizes.SIZES), "One size, with its components; default: all.")
    flags.DEFINE_enum("remat", "none", config.REMAT, "What the backward pass recomputes, everywhere.")
    flags.DEFINE_enum("dtype", "bfloat16", config.DTYPES, "Of the computation, for activation memory.")


def overview(names: Sequence[str], remat: str = "none", dtype: str = "bfloat16") -> Iterator[str]:
    """Table of all sizes, a line at a time: widths, taps, parameters, arithmetic, activation memory."""
    yield (
        f"{'size':>4} {'encoder':>13} {'decoder':>8} {'taps':>12} {'pre-training':>12} {'fine-tuning':>11} "
        f"{'forward':>8} {'training':>8} {'kept':>7}"
    )
    yield (
        f"{'':>4} {'width × depth':>13} {'width':>8} {'':>12} {'M params':>12} {'M params':>11} "
        f"{'GFLOP':>8} {'GFLOP':>8} {'MB':>7}"
    )
    masks = config.MaskConfig()
    execution = config.ExecutionConfig(
        dtype=dtype, remat_encoder=remat, remat_fusion=remat, remat_decoder=remat
    )
    for name in names:
        model = sizes.model_config(name)
        count = flops(model, masks)
        yield (
            f"{name:>4} {model.encoder_dim:>5} × {model.encoder_depth:<5} {model.decoder_dim:>8} "
            f"{', '.join(map(str, model.skip_layers)):>12} "
            f"{shapes.pretrain_parameters(model, masks) / 1e6:>12.2f} "
            f"{shapes.finetune_parameters(model, config.FinetuneConfig(outputs=11)) / 1e6:>11.2f} "
            f"{sum(count.forward.values()) / 1e9:>8.1f} {sum(count.training.values()) / 1e9:>8.1f} "
            f"{activation_bytes(model, masks, execution) / 1e6:>7.1f}"
        )
    yield (
        f"FLOP: 2 a multiply-add, matrix products only, a clip. Kept: bytes a clip from the forward to the "
        f"backward pass, {dtype}, remat {remat}."
    )


def components(name: str) -> str:
    """Table of one size: arithmetic by component."""
    count = flops(sizes.model_config(name), config.MaskConfig())
    total = sum(count.training.values())
    lines = [f"{'component':>20} {'forward GFLOP':>13} {'training GFLOP':>14} {'share':>6}"]
    for part, forward in count.forward.items():
        training = count.training[part]
        lines.append(f"{part:>20} {forward / 1e9:>13.2f} {training / 1e9:>14.2f} {training / total:>6.1%}")
    lines.append(f"{'all':>20} {sum(count.forward.values()) / 1e9:>13.2f} {total / 1e9:>14.2f} {1:>6.1%}")
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """Print the tables."""
    jax.config.update("jax_platforms", "cpu")  # shapes alone: no accelerator is worth waiting for
    for line in overview([FLAGS.size] if FLAGS.size else list(sizes.SIZES), FLAGS.remat, FLAGS.dtype):
        print(line, flush=True)
    if FLAGS.size:
        print()
        print(components(FLAGS.size))
    return 0


if __name__ == "__main__":
    command.run("sizes", define_flags, main)
