"""Figures of a compiled step: memory, traffic, arithmetic, messages, and the speed they allow at most."""

import collections
import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from hicmae_jax.aot import overlap
from hicmae_jax.aot.compile import Step, memory
from hicmae_jax.aot.hlo.collectives import collectives
from hicmae_jax.aot.hlo.program import Program, parse
from hicmae_jax.aot.hlo.traffic import Executed, Moved, Walk
from hicmae_jax.model.flops import flops as model_flops
from hicmae_jax.settings.pretrain import PretrainSettings
from hicmae_jax.training import chips


def figures(step: Step, config: PretrainSettings, largest: int = 20) -> dict[str, Any]:
    """Figures of a compiled step, ready for JSON.

    Bytes and operations are counted by walking the program (see `hlo.traffic`). `cost_analysis` is the
    compiler's own count: it counts the body of a loop once and a hand-written kernel as nothing.

    Args:
        step: the compiled step, from `compile_step`.
        config: settings with which the step was compiled.
        largest: number of instructions to list, of those that move the most bytes.
    """
    devices = step.mesh.devices.ravel()
    on_gpu = devices[0].platform == "gpu"
    clips = config.batch // len(devices)
    program = parse(step.text)
    walk = Walk(program)
    executed = list(walk)
    moved = sum((each.moved * each.times for each in executed), start=Moved())
    flops = sum(each.flops * each.times for each in executed)
    analytic = sum(model_flops(config.model, config.masks).training.values())
    cost_analysis = step.compiled.cost_analysis() or {}
    return {
        "compile_seconds": round(step.seconds, 1),
        "chips": len(devices),
        "chip": devices[0].device_kind,
        "mesh": dict(step.mesh.shape),
        "compiler_options": dict(step.options),
        "clips_per_chip": clips,
        "hbm_bytes_per_clip": moved.main / clips,
        "hbm_padded_bytes_per_clip": moved.padded / clips,
        "all_bytes_per_clip": (moved.main + moved.on_chip) / clips,
        "flops_per_clip": flops / clips,
        "analytic_flops_per_clip": analytic,
        # A TPU runs a program by itself; a GPU is told to start each kernel.
        "launches": sum(each.times for each in executed) if on_gpu else None,
        "temp_bytes_per_clip": step.memory.temp_size_in_bytes / clips,
        "hbm_per_chip": memory(step),
        "roofline": roofline(devices[0], flops, moved, clips, analytic),
        "collectives": messages(program, executed, list(devices)),
        "hbm_bytes_per_clip_by_part": _bytes_by_part(executed, clips, "copies" if on_gpu else "prefetches"),
        "largest": _largest(executed, clips, largest),
        "unknown_loops": walk.unknown_loops,
        "cost_analysis": {
            name: cost_analysis[name] for name in ("flops", "bytes accessed") if name in cost_analysis
        },
    }


def messages(
    program: Program, executed: Sequence[Executed], devices: Sequence[jax.Device]
) -> list[dict[str, Any]]:
    """The messages of a step, by bytes, the largest first.

    Args:
        program: the compiled step.
        executed: its executed instructions.
        devices: the chips of the mesh.

    Returns:
        The fields of each `Collective`, and its `total` bytes; where the chip's links are known, also
        `seconds` of the links in a step and `beside_seconds`, those in which other instructions run (see
        `overlap`).
    """
    chip = chips.chip(devices[0])
    if not chip or not chip.links or not chip.bandwidth:
        return [dataclasses.asdict(sent) | {"total": sent.total} for sent in collectives(executed)]
    hosts = len({device.process_index for device in devices})
    links = overlap.Links(chip, hosts, len(devices) // hosts)
    return [
        dataclasses.asdict(timed.collective)
        | {"total": timed.collective.total, "seconds": timed.seconds, "beside_seconds": timed.beside}
        for timed in overlap.messages(program, executed, links)
    ]


def roofline(device: jax.Device, flops: int, moved: Moved, clips: int, analytic: int) -> dict[str, Any]:
    """The least time of a step by arithmetic and by memory, and which of the two bounds it.

    Args:
        device: a chip of the mesh.
        flops: operations a chip, a step.
        moved: bytes a chip, a step; the padding of tiles counts, since it moves too.
        clips: a chip, a step.
        analytic: operations that the model needs for a clip, from which the utilisation at the bound follows.

    Returns:
        An empty dictionary where the chip's bandwidth is not known.
    """
    chip = chips.chip(device)
    if not chip or not chip.bandwidth:
        return {}
    seconds = {"arithmetic": flops / chip.flops, "memory": moved.padded / chip.bandwidth}
    bound = max(seconds, key=lambda name: seconds[name])
    return {f"{name}_seconds": value for name, value in seconds.items()} | {
        "bound": bound,
        "clips_per_second_per_chip": clips / seconds[bound],
        "model_flop_utilisation": analytic * clips / seconds[bound] / chip.flops,
    }


_WRAPPERS = re.compile(r"jit\([^)]*\)/|(?:transpose|jvp|vmap)\(|\)")
# Part of the model → pattern of an instruction's origin. The first pattern that matches decides.
_PARTS: Mapping[str, str] = {
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


def _part_of(origin: str) -> str:
    """The part of the model that an instruction belongs to, by its origin in the source."""
    return next((name for name, pattern in _PARTS.items() if re.search(pattern, origin)), "all else")


def _bytes_by_part(executed: Sequence[Executed], clips: int, added: str) -> dict[str, float]:
    """Bytes of main memory a clip by part of the model, the largest first.

    `all else` is preprocessing, targets and update.

    Args:
        executed: instructions of the program.
        clips: a chip, a step.
        added: name of what the compiler has added to the source.
    """
    total: dict[str, int] = collections.Counter()
    for each in executed:
        origin = each.instruction.origin
        total[_part_of(origin) if origin else added] += each.moved.main * each.times
    return {name: value / clips for name, value in sorted(total.items(), key=lambda item: -item[1])}


def _largest(executed: Sequence[Executed], clips: int, count: int) -> list[dict[str, Any]]:
    """The instructions that move most bytes of main memory, the largest first."""
    ordered = sorted(executed, key=lambda each: -each.moved.main * each.times)[:count]
    return [
        {
            "name": each.instruction.name,
            "opcode": each.instruction.opcode,
            "times": each.times,
            "hbm_bytes_per_clip": each.moved.main * each.times / clips,
            "result": each.instruction.type[:200],
            "origin": _WRAPPERS.sub("", each.instruction.origin),
        }
        for each in ordered
    ]
