"""Print parameters, arithmetic and activation memory of every model size.

    python -m launch.sizes [--size=B] [--remat=full] [--dtype=float32]
    python -m launch.sizes --ablations [--size=S]

The second prints the rows of `--config=ablations:…` instead: parameters, arithmetic and changed settings.
"""

import functools
from collections.abc import Iterator, Sequence

import jax
from absl import flags

from hicmae_jax.aot.activations import activation_bytes
from hicmae_jax.model import config, shapes, sizes
from hicmae_jax.model.flops import flops
from hicmae_jax.settings import ablations, pretrain, recipes
from launch import command

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Declare the flags; not at import, because other commands have flags of the same names."""
    flags.DEFINE_enum(
        "size", None, list(sizes.SIZES), "Print this size and its components; by default all sizes."
    )
    flags.DEFINE_enum(
        "remat", "none", config.REMAT, "What the backward pass recomputes, in encoders, fusion and decoders."
    )
    flags.DEFINE_enum("dtype", "bfloat16", config.DTYPES, "Precision of the activations.")
    flags.DEFINE_bool("ablations", False, "Print the rows of the ablations instead, of --size or B.")


def overview(names: Sequence[str], remat: str = "none", dtype: str = "bfloat16") -> Iterator[str]:
    """Lines of a table with one line for each size: widths, taps, parameters, arithmetic, activation memory.

    Args:
        names: names of the sizes.
        remat: what the backward pass recomputes, in every stack.
        dtype: precision of the activations.
    """
    yield (
        f"{'size':>5} {'encoder':>13} {'decoder':>8} {'taps':>12} {'pre-training':>12} {'fine-tuning':>11} "
        f"{'forward':>8} {'training':>8} {'kept':>7}"
    )
    yield (
        f"{'':>5} {'width × depth':>13} {'width':>8} {'':>12} {'M params':>12} {'M params':>11} "
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
            f"{name:>5} {model.encoder_dim:>5} × {model.encoder_depth:<5} {model.decoder_dim:>8} "
            f"{', '.join(map(str, model.skip_layers)):>12} "
            f"{shapes.pretrain_parameters(model, masks) / 1e6:>12.2f} "
            f"{shapes.finetune_parameters(model, config.FinetuneConfig(outputs=11)) / 1e6:>11.2f} "
            f"{sum(count.forward.values()) / 1e9:>8.1f} {sum(count.training.values()) / 1e9:>8.1f} "
            f"{activation_bytes(model, masks, execution) / 1e6:>7.1f}"
        )
    yield (
        f"FLOP: matrix products of one clip, 2 for each multiply-add. Kept: bytes of one clip from the "
        f"forward to the backward pass, {dtype}, remat {remat}."
    )


def components(name: str) -> str:
    """A table of the arithmetic of each component of one size."""
    count = flops(sizes.model_config(name), config.MaskConfig())
    total = sum(count.training.values())
    lines = [f"{'component':>20} {'forward GFLOP':>13} {'training GFLOP':>14} {'share':>6}"]
    for part, forward in count.forward.items():
        training = count.training[part]
        lines.append(f"{part:>20} {forward / 1e9:>13.2f} {training / 1e9:>14.2f} {training / total:>6.1%}")
    lines.append(f"{'all':>20} {sum(count.forward.values()) / 1e9:>13.2f} {total / 1e9:>14.2f} {1:>6.1%}")
    return "\n".join(lines)


def of_ablations(size: str = "B") -> Iterator[str]:
    """Lines of a table with one line for each row of the ablations.

    Args:
        size: name of the size to change.
    """
    yield f"{'--config=ablations:…':<22} {'pre-training':>12} {'training':>8}  changed settings"
    yield f"{'':<22} {'M params':>12} {'GFLOP':>8}"
    counted = functools.cache(shapes.pretrain_parameters)
    for name in ablations.names():
        row = ablations.row(name)
        recipe = recipes.load(f"ablations:{name}")
        recipe.size, recipe.data.sets = size, ("…",)  # no set is read
        run = pretrain.from_config_dict(recipe, "cpu")
        changed = " ".join(f"{key}={value}" for key, value in {**row.pretrain, **row.finetune}.items())
        training = sum(flops(run.model, run.masks).training.values())
        parameters = counted(run.model, config.MaskConfig())
        yield f"{name:<22} {parameters / 1e6:>12.2f} {training / 1e9:>8.1f}  {changed or '(the recipe)'}"


def main(argv: list[str]) -> int:
    """Print the tables."""
    jax.config.update("jax_platforms", "cpu")  # only shapes are computed: do not start an accelerator
    if FLAGS.ablations:
        if given := [name for name in ("remat", "dtype") if FLAGS[name].present]:
            raise ValueError(
                f"--{given[0]} does not go with --ablations, which counts no memory: leave it out"
            )
        for line in of_ablations(FLAGS.size or "B"):
            print(line, flush=True)
        return 0
    for line in overview([FLAGS.size] if FLAGS.size else list(sizes.SIZES), FLAGS.remat, FLAGS.dtype):
        print(line, flush=True)
    if FLAGS.size:
        print()
        print(components(FLAGS.size))
    return 0


if __name__ == "__main__":
    command.run("sizes", define_flags, main)
