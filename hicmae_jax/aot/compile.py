"""The train step compiled for chips that need not be there, and what the compiled program says of itself.

It is the step of a run: same configuration, preprocessing, mesh and shardings, lowered from shapes alone.
"""

import collections
import dataclasses
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from data_pipeline.format.clip_sampling import ClipSampling
from data_pipeline.media.decode import FPS, SAMPLE_RATE, Crop
from hicmae_jax.aot.hlo.collectives import collectives
from hicmae_jax.aot.hlo.program import parse
from hicmae_jax.aot.hlo.traffic import Executed, Moved, Walk
from hicmae_jax.model import flops as costs
from hicmae_jax.runs import pretrain
from hicmae_jax.settings.pretrain import RunConfig
from hicmae_jax.training import chips, sharding

GIB = 2**30
# The compiler's words for it, after and before it has placed everything.
_NO_ROOM = (
    re.compile(
        r"Ran out of memory in memory space hbm.*?Used ([\d.]+)([KMGT]?) of ([\d.]+)([KMGT]?) hbm", re.S
    ),
    re.compile(
        r"Ran out of memory on HBM.*?\(([\d.]+)([KMGT]?)\) exceeds available HBM \(([\d.]+)([KMGT]?)\)", re.S
    ),
)
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
# Of the step's schedule, which nothing that is compiled depends on but its constants.
STEPS_PER_EPOCH = 1000


class DoesNotFitError(Exception):
    """A step that needs more memory than a chip has.

    Attributes:
        needed: bytes a chip, as far as the compiler got.
        available: bytes a chip.
    """

    def __init__(self, needed: float, available: float) -> None:
        super().__init__(f"does not fit: {needed / GIB:.2f} of {available / GIB:.2f} GiB a chip")
        self.needed, self.available = needed, available


@dataclasses.dataclass(frozen=True)
class Step:
    """A compiled step.

    Attributes:
        compiled: it.
        seconds: that compiling took.
        mesh: what it was compiled for.
    """

    compiled: jax.stages.Compiled
    seconds: float
    mesh: jax.sharding.Mesh


def abstract_batch(config: RunConfig, mesh: jax.sharding.Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and shardings of a batch as the data pipeline makes it from prepared clips of standard size."""
    crop = Crop()
    samples = ClipSampling(config.data.frames, config.data.stride).audio_samples(FPS, SAMPLE_RATE)
    where = sharding.batch_sharding(mesh)

    def rows(dtype: Any, *shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((config.batch, *shape), dtype, sharding=where)

    return {
        "frames": rows(jnp.uint8, config.data.frames, crop.height, crop.width, 3),
        "audio": rows(jnp.int16, samples),
        "samples": rows(jnp.int32),
        "example": rows(jnp.int32),
        "replaced": rows(jnp.bool_),
    }


def compile_step(config: RunConfig, devices: Sequence[jax.Device]) -> Step:
    """Compile a run's step.

    Args:
        config: of the run.
        devices: to compile for.

    Raises:
        ValueError: a batch that does not divide over the devices, or an `fsdp` that does not divide them.
        DoesNotFitError: it needs more memory than a chip has.
    """
    mesh = sharding.make_mesh(config.fsdp, devices)
    pretrain.check_spreads(config, mesh)
    schedule_of = config.optimizer_config(STEPS_PER_EPOCH)
    optimizer, abstract = pretrain.abstract_run(config, schedule_of, mesh)
    step = pretrain.make_step(config, optimizer, schedule_of.schedule(), abstract, mesh)
    lowered = step.lower(abstract, abstract_batch(config, mesh))
    begin = time.perf_counter()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        found = next(filter(None, (words.search(str(error)) for words in _NO_ROOM)), None)
        if not found:
            raise
        needed, available = (float(found[i]) * _UNITS[found[i + 1]] for i in (1, 3))
        raise DoesNotFitError(needed, available) from None
    return Step(compiled, time.perf_counter() - begin, mesh)


def figures(step: Step, config: RunConfig, largest: int = 20) -> dict[str, Any]:
    """What a compiled step costs, of plain numbers and names.

    Bytes and operations are counted by walking the program (see `hlo.traffic`); `cost_analysis` is the
    compiler's own count, which takes a loop's body once and a kernel as nothing.

    Args:
        step: from `compile_step`.
        config: that it was compiled from.
        largest: how many of the instructions that move most to name.
    """
    devices = step.mesh.devices.ravel()
    clips = config.batch // len(devices)
    walk = Walk(parse(step.compiled.as_text()))
    executed = list(walk)
    moved = sum((each.moved * each.times for each in executed), start=Moved())
    flops = sum(each.flops * each.times for each in executed)
    analytic = sum(costs.flops(config.model, config.masks).training.values())
    own = step.compiled.cost_analysis() or {}
    messages = collectives(executed)
    return {
        "compile_seconds": round(step.seconds, 1),
        "chips": len(devices),
        "chip": devices[0].device_kind,
        "mesh": dict(step.mesh.shape),
        "clips_per_chip": clips,
        "hbm_bytes_per_clip": moved.main / clips,
        "hbm_padded_bytes_per_clip": moved.padded / clips,
        "all_bytes_per_clip": (moved.main + moved.chip) / clips,
        "flops_per_clip": flops / clips,
        "analytic_flops_per_clip": analytic,
        "temp_bytes_per_clip": step.compiled.memory_analysis().temp_size_in_bytes / clips,
        "hbm_per_chip": memory(step),
        "roofline": roofline(devices[0], flops, moved, clips, analytic),
        "collectives": [dataclasses.asdict(message) | {"total": message.total} for message in messages],
        "places": _places(executed, clips),
        "largest": _largest(executed, clips, largest),
        "unknown_loops": walk.unknown_loops,
        "cost_analysis": {name: own[name] for name in ("flops", "bytes accessed") if name in own},
    }


def memory(step: Step) -> dict[str, float]:
    """Bytes of a chip's memory: arguments, temporaries, program, their sum, and its share of the chip's."""
    of = step.compiled.memory_analysis()
    # Results lie where the donated arguments were; what is more of them counts.
    new = of.output_size_in_bytes - of.alias_size_in_bytes
    total = of.argument_size_in_bytes + new + of.temp_size_in_bytes + of.generated_code_size_in_bytes
    chip = chips.chip(step.mesh.devices.ravel()[0])
    return {
        "arguments": of.argument_size_in_bytes,
        "temporaries": of.temp_size_in_bytes,
        "program": of.generated_code_size_in_bytes,
        "total": total,
    } | ({"share": total / chip.memory} if chip and chip.memory else {})


def roofline(device: jax.Device, flops: int, moved: Moved, clips: int, analytic: int) -> dict[str, Any]:
    """Least seconds a step by arithmetic and by memory, and what of them bounds it.

    Args:
        device: that it runs on.
        flops: operations on a chip.
        moved: bytes on a chip; padding of tiles moves too.
        clips: a chip.
        analytic: operations a clip that the model needs, for the utilisation at that bound.
    """
    chip = chips.chip(device)
    if not chip or not chip.bandwidth:
        return {}
    seconds = {"arithmetic": flops / chip.flops, "memory": moved.padded / chip.bandwidth}
    bound = max(seconds, key=seconds.get)
    return {f"{name}_seconds": value for name, value in seconds.items()} | {
        "bound": bound,
        "clips_per_second_per_chip": clips / seconds[bound],
        "model_flop_utilisation": analytic * clips / seconds[bound] / chip.flops,
    }


_WRAPPED = re.compile(r"jit\([^)]*\)/|(?:transpose|jvp|vmap)\(|\)")
_PLACES: Mapping[str, str] = {
    "audio decoder attention": r"decoder_audio/.*attn",
    "audio decoder": r"decoder_audio",
    "video decoder attention": r"decoder/.*attn",
    "video decoder MLP": r"decoder/.*mlp",
    "video decoder": r"decoder|_decode",
    "fusion encoder": r"encoder_fusion",
    "audio encoder": r"encoder_audio",
    "video encoder": r"encoder",
    "contrast": r"contrastive|info_nce",
}


def _places(executed: Sequence[Executed], clips: int) -> dict[str, float]:
    """Bytes of main memory a clip by part of the model; `all else` is preprocessing, targets and update."""
    total: dict[str, int] = collections.Counter()
    for each in executed:
        origin = each.instruction.origin
        place = next((name for name, pattern in _PLACES.items() if re.search(pattern, origin)), None)
        total[place or ("prefetches" if not origin else "all else")] += each.moved.main * each.times
    return {name: value / clips for name, value in sorted(total.items(), key=lambda item: -item[1])}


def _largest(executed: Sequence[Executed], clips: int, count: int) -> list[dict[str, Any]]:
    ordered = sorted(executed, key=lambda each: -each.moved.main * each.times)[:count]
    return [
        {
            "name": each.instruction.name,
            "opcode": each.instruction.opcode,
            "times": each.times,
            "hbm_bytes_per_clip": each.moved.main * each.times / clips,
            "result": each.instruction.type[:200],
            "origin": _WRAPPED.sub("", each.instruction.origin),
        }
        for each in ordered
    ]
