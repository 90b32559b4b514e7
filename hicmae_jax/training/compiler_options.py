"""Options of the compiler for the train step, by platform.

Other compiled functions send few messages, and take the compiler's defaults. `docs/scale.md` shows what the
options change.
"""

import types
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from hicmae_jax.training.sharding import replicated

Options = Mapping[str, bool | int | str]

BY_PLATFORM: Mapping[str, Options] = types.MappingProxyType(
    {
        "tpu": {
            # Sums of gradients may run beside matrix products, as gathers do by default.
            "xla_enable_async_all_reduce": True,
            "xla_tpu_enable_async_collective_fusion_fuse_all_reduce": True,
            # Not here: xla_jf_crs_combiner_threshold_in_bytes=262144, which gives the gradient of each matrix
            # a message of its own. More of them can be hidden, but each one has a latency.
        },
        # By default XLA makes every message between GPUs asynchronous, but does not move work beside it.
        "gpu": {"xla_gpu_enable_latency_hiding_scheduler": True},
    }
)

_GPUS = {"cuda": "gpu", "rocm": "gpu"}
"""Names of platforms that devices without hardware have, to compile for."""


def of(platform: str, changes: Sequence[str] = ()) -> dict[str, bool | int | str]:
    """The options for a platform, with a user's changes.

    Args:
        platform: JAX's name of the devices (`cpu`, `gpu`, `tpu`, …).
        changes: texts `name=value`, each of which adds or replaces an option. `name=` without a value leaves
            the option to the compiler.
    """
    options = dict(BY_PLATFORM.get(_GPUS.get(platform, platform), {}))
    for text in changes:
        name, _, value = text.partition("=")
        options.pop(name, None)
        if value:
            options[name] = _typed(value)
    return options


def check(options: Options, mesh: jax.sharding.Mesh) -> None:
    """Refuse options that the compiler does not know, by compiling an empty function with them.

    Args:
        options: from `of`.
        mesh: the devices to compile for.

    Raises:
        ValueError: one line with the option.
    """
    if not options:
        return
    nothing = jax.ShapeDtypeStruct((), jnp.float32, sharding=replicated(mesh))
    try:
        jax.jit(lambda x: x, compiler_options=dict(options)).lower(nothing).compile()
    except jax.errors.JaxRuntimeError as error:
        why = str(error).splitlines()[0].removeprefix("INVALID_ARGUMENT: ").rstrip(" :")
        raise ValueError(
            f"execution.compiler_options: {why}; change or remove it there, or leave one of this project's "
            "options to the compiler with name="
        ) from None


def shown(options: Options) -> str:
    """The options as `name=value`, separated by commas, as the command line takes them one by one."""
    return ", ".join(f"{name}={_text(value)}" for name, value in options.items())


def _typed(text: str) -> bool | int | str:
    if text in ("true", "false"):
        return text == "true"
    return int(text) if text.removeprefix("-").isdigit() else text


def _text(value: bool | int | str) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
