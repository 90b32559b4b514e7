"""The figures of a compiled step as lines of text."""

from collections.abc import Iterator, Mapping
from typing import Any

from hicmae_jax.training import compiler_options
from hicmae_jax.training.chips import GIB


def report(figures: Mapping[str, Any]) -> list[str]:
    """The figures as lines to print.

    Args:
        figures: the figures of a step, from `figures.figures`.
    """
    return [
        *_summary(figures),
        "",
        *_messages(figures),
        "",
        "MB of main memory a clip, by part of the model",
        *(f"{moved / 1e6:>8.1f}  {part}" for part, moved in figures["hbm_bytes_per_clip_by_part"].items()),
        "",
        "what moves most, MB of main memory a clip",
        *(
            f"{each['hbm_bytes_per_clip'] / 1e6:>8.2f}  {each['times']:>3} × {each['name']:<32} "
            f"{each['origin'][-70:]}"
            for each in figures["largest"]
        ),
    ]


def _summary(figures: Mapping[str, Any]) -> Iterator[str]:
    memory, roofline = figures["hbm_per_chip"], figures["roofline"]
    share = f", {memory['share']:.0%} of the chip's" if "share" in memory else ""
    yield (
        f"compiled    in {figures['compile_seconds']:.0f} s for {figures['chips']} × {figures['chip']}, mesh "
        f"{figures['mesh']}, {figures['clips_per_chip']} clips a chip"
    )
    if figures["compiler_options"]:
        yield f"options     {compiler_options.shown(figures['compiler_options'])}"
    yield (
        f"memory      {memory['total'] / GIB:.2f} GiB a chip{share}: arguments "
        f"{memory['arguments'] / GIB:.2f}, temporaries {memory['temporaries'] / GIB:.2f}, program "
        f"{memory['program'] / GIB:.2f}"
    )
    yield f"temporaries {figures['temp_bytes_per_clip'] / 1e6:.1f} MB a clip"
    yield (
        f"traffic     {figures['hbm_bytes_per_clip'] / 1e6:.0f} MB a clip of main memory "
        f"({figures['hbm_padded_bytes_per_clip'] / 1e6:.0f} with the padding of tiles), "
        f"{figures['all_bytes_per_clip'] / 1e6:.0f} with on-chip memory"
    )
    yield (
        f"arithmetic  {figures['flops_per_clip'] / 1e9:.2f} GFLOP a clip, of which the model needs "
        f"{figures['analytic_flops_per_clip'] / 1e9:.2f}"
    )
    if roofline:
        yield (
            f"roofline    bound by {roofline['bound']}: {roofline['memory_seconds'] * 1e3:.1f} ms for "
            f"memory, {roofline['arithmetic_seconds'] * 1e3:.1f} ms for arithmetic; at most "
            f"{roofline['clips_per_second_per_chip']:,.0f} clips/s a chip, model-FLOP utilisation "
            f"{roofline['model_flop_utilisation']:.0%}"
        )
    timed = [message for message in figures["collectives"] if "seconds" in message]
    if timed:
        seconds, beside = (sum(each[name] for each in timed) for name in ("seconds", "beside_seconds"))
        yield (
            f"messages    {seconds * 1e3:.2f} ms of the links, of which {beside * 1e3:.2f} ms beside other "
            "work: an estimate"
        )
    if figures["launches"] is not None:
        yield f"launches    {figures['launches']:,} kernels a step; a call of cuBLAS or cuDNN counts as one"
    if figures["cost_analysis"]:  # the GPU compiler has none
        counts = ", ".join(f"{name} {value:.3g}" for name, value in figures["cost_analysis"].items())
        yield f"compiler    counts each loop's body once and kernels not at all: {counts}"
    if figures["unknown_loops"]:
        yield (
            "loops       counted once, because the program does not say how often they run: "
            f"{', '.join(figures['unknown_loops'])}"
        )


def _messages(figures: Mapping[str, Any]) -> Iterator[str]:
    yield f"{'messages':>18} {'times':>5} {'MB each':>7} {'MB a step':>9} {'ms':>6} {'beside':>6}  from"
    for message in figures["collectives"]:
        times = ("seconds", "beside_seconds")
        known = (f"{message[name] * 1e3:>6.2f}" if name in message else f"{'?':>6}" for name in times)
        yield (
            f"{message['kind']:>18} {message['times']:>5} {message['bytes'] / 1e6:>7.2f} "
            f"{message['total'] / 1e6:>9.2f} {' '.join(known)}  {message['origin'][-60:]}"
        )
