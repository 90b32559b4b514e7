"""Compiles a run's train step for devices that this machine does not have; needs only shapes."""

import dataclasses
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp

from data_pipeline.format.clip_sampling import ClipSampling
from data_pipeline.media.decode import FPS, SAMPLE_RATE, Crop
from hicmae_jax.runs import build
from hicmae_jax.settings.pretrain import PretrainSettings
from hicmae_jax.training import chips, compiler_options, sharding
from hicmae_jax.training.chips import GIB

# The TPU compiler has two messages for a lack of memory: before and after it assigns addresses to arrays.
_OUT_OF_MEMORY = (
    re.compile(
        r"Ran out of memory in memory space hbm.*?Used ([\d.]+)([KMGT]?) of ([\d.]+)([KMGT]?) hbm", re.S
    ),
    re.compile(
        r"Ran out of memory on HBM.*?\(([\d.]+)([KMGT]?)\) exceeds available HBM \(([\d.]+)([KMGT]?)\)", re.S
    ),
)
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
# XLA times Triton's matrix products on the GPU to choose their tiles. Without a GPU it has to leave them out.
_OPTIONS: Mapping[str, jax.stages.CompilerOptions] = {"gpu": {"xla_gpu_enable_triton_gemm": False}}
# The length of the schedule changes only constants in the program, so any value gives the same figures.
STEPS_PER_EPOCH = 1000


class DoesNotFitError(Exception):
    """The step needs more memory than a chip has.

    Attributes:
        needed: bytes a chip, as far as the compiler has counted.
        available: bytes a chip.
    """

    def __init__(self, needed: float, available: float) -> None:
        super().__init__(f"does not fit: {needed / GIB:.2f} of {available / GIB:.2f} GiB a chip")
        self.needed, self.available = needed, available


@dataclasses.dataclass(frozen=True)
class Step:
    """A compiled train step.

    Attributes:
        compiled: the program.
        seconds: time that the compiler took.
        mesh: devices that the program is for.
        options: of the compiler, as `compiler_options.of` gives them.
    """

    compiled: jax.stages.Compiled
    seconds: float
    mesh: jax.sharding.Mesh
    options: compiler_options.Options

    @property
    def text(self) -> str:
        """The program as text (HLO)."""
        text = self.compiled.as_text()
        assert text is not None, "this compiler does not show its programs"
        return text

    @property
    def memory(self) -> Any:
        """The compiler's account of memory, in bytes a chip."""
        memory = self.compiled.memory_analysis()
        assert memory is not None, "this compiler does not account for memory"
        return memory


def abstract_batch(config: PretrainSettings, mesh: jax.sharding.Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and shardings of a batch that the data pipeline reads from prepared clips of standard size.

    Args:
        config: settings of the run.
        mesh: over which the clips are divided.

    Returns:
        `frames` uint8[batch, frames, height, width, 3], `audio` int16[batch, samples], and int32 `samples`,
        int32 `example` and bool `replaced`, each of shape [batch].
    """
    crop = Crop()
    samples = ClipSampling(config.data.frames, config.data.stride).audio_samples(FPS, SAMPLE_RATE)
    batch_sharding = sharding.batch_sharding(mesh)

    def rows(dtype: Any, *shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((config.batch, *shape), dtype, sharding=batch_sharding)

    return {
        "frames": rows(jnp.uint8, config.data.frames, crop.height, crop.width, 3),
        "audio": rows(jnp.int16, samples),
        "samples": rows(jnp.int32),
        "example": rows(jnp.int32),
        "replaced": rows(jnp.bool_),
    }


def memory(step: Step) -> dict[str, float]:
    """Bytes of a chip's memory that a step needs.

    Returns:
        `arguments`, `temporaries`, `program`, their `total`, and `share`, the total as a share of the chip's
        memory where that is known.
    """
    analysis = step.memory
    # Results are written over the donated arguments; only what goes beyond them needs memory of its own.
    new = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    total = (
        analysis.argument_size_in_bytes
        + new
        + analysis.temp_size_in_bytes
        + analysis.generated_code_size_in_bytes
    )
    chip = chips.chip(step.mesh.devices.ravel()[0])
    return {
        "arguments": analysis.argument_size_in_bytes,
        "temporaries": analysis.temp_size_in_bytes,
        "program": analysis.generated_code_size_in_bytes,
        "total": total,
    } | ({"share": total / chip.memory} if chip and chip.memory else {})


def compile_step(config: PretrainSettings, devices: Sequence[jax.Device]) -> Step:
    """Compile the train step that `launch.pretrain` would run with this configuration.

    Args:
        config: settings of the run.
        devices: to compile for.

    Raises:
        ValueError: the batch does not divide over the devices, `fsdp` does not divide their number, or the
            compiler does not know an option.
        DoesNotFitError: the step needs more memory than a chip has.
    """
    mesh = sharding.make_mesh(config.fsdp, devices)
    build.check_batch_divides(config, mesh)
    options = build.options_of_compiler(config, mesh)
    compiler_options.check(options, mesh)
    optimizer_config = config.optimizer_config(STEPS_PER_EPOCH)
    optimizer, state = build.abstract_run(config, optimizer_config, mesh)
    step = build.make_step(config, optimizer, optimizer_config.schedule(), state, mesh)
    # The type of a train step is that of any function, and this one comes from `jax.jit`.
    lowered = cast(jax.stages.Wrapped, step).lower(state, abstract_batch(config, mesh))
    begin = time.perf_counter()
    try:
        compiled = lowered.compile(compiler_options=_OPTIONS.get(devices[0].platform))
    except jax.errors.JaxRuntimeError as error:
        found = next(filter(None, (message.search(str(error)) for message in _OUT_OF_MEMORY)), None)
        if not found:
            raise
        needed, available = (float(found[i]) * _UNITS[found[i + 1]] for i in (1, 3))
        raise DoesNotFitError(needed, available) from None
    made = Step(compiled, time.perf_counter() - begin, mesh, options)
    # The TPU compiler refuses a step that does not fit; the GPU compiler does not.
    chip, needed = chips.chip(devices[0]), memory(made)["total"]
    if devices[0].platform == "gpu" and chip and chip.memory and needed > chip.memory:
        raise DoesNotFitError(needed, chip.memory)
    return made
