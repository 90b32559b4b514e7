"""Compile a run's train step for TPUs that need not be there, and say what it costs on them.

    python -m launch.aot --config=configs/pretrain.py:B --config.batch=256 --config.loss.negatives=global \
        --topology=v5p:2x2x1 [--json=b.json] [--text=b.hlo]

The TPU compiler, which `pip install 'hicmae_jax[tpu]'` brings, needs no TPU. Compiling takes minutes of one
core. `docs/scale.md` explains the figures.
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import flags

from launch import config_flag

FLAGS = flags.FLAGS

GIB = 2**30


def define_flags() -> None:
    """Declares the command line; only when run, so that other commands may use the same names."""
    flags.DEFINE_string("topology", None, "Chip and network, such as v5e:16x16.", required=True)
    flags.DEFINE_string("json", None, "File to write all figures to.")
    flags.DEFINE_string("text", None, "File to write the compiled program to.")
    flags.DEFINE_bool(
        "search", True, "Of a step that does not fit: compile changes until one does; else estimate."
    )


def main(argv: list[str]) -> int:
    """Compiles and reports; the exit code is 1 if the step does not fit, or something is wrong."""
    del argv
    os.environ["JAX_PLATFORMS"] = "cpu"  # a TPU that is there is left alone
    from hicmae_jax.aot import compile as ahead_of_time
    from hicmae_jax.aot import fit_memory, topology
    from hicmae_jax.settings import pretrain as run_config

    for path in filter(None, (FLAGS.json, FLAGS.text)):
        if not Path(path).absolute().parent.is_dir():
            return _refuse(f"{path} cannot be written: there is no directory {Path(path).parent}")
    try:
        given = FLAGS.config
        if not given.data.sets:
            with given.unlocked():
                given.data.sets = ("any",)  # nothing is read
        config = run_config.from_config_dict(given, "tpu")
        devices = topology.devices(FLAGS.topology)
        print(f"compiling   {config.size}, batch {config.batch:,}, for {FLAGS.topology}", flush=True)
        step = ahead_of_time.compile_step(config, devices)
    except (ValueError, ModuleNotFoundError) as error:
        return _refuse(str(error))
    except ahead_of_time.DoesNotFitError as error:
        return _search(config, devices, error, fit_memory)
    figures = {
        "topology": FLAGS.topology,
        "size": config.size,
        "batch": config.batch,
        "fsdp": config.fsdp,
        "accumulate": config.accumulate,
        "negatives": config.loss.negatives,
    } | ahead_of_time.figures(step, config)
    for line in report(figures):
        print(line)
    if FLAGS.json:
        Path(FLAGS.json).write_text(json.dumps(figures, indent=1) + "\n")
    if FLAGS.text:
        Path(FLAGS.text).write_text(step.compiled.as_text())
    return 0


def _refuse(message: str) -> int:
    print(f"aot: {message}", file=sys.stderr)
    return 1


def _search(config: Any, devices: Any, error: Any, fit_memory: Any) -> int:
    if not FLAGS.search:
        estimated = fit_memory.changes(config, devices, error.needed - error.available)
        options, _ = next(estimated, ("more chips", None))
        return _refuse(f"{error}; try {options}, by an estimate of what that saves")
    print(error, flush=True)
    for options, result in fit_memory.first_that_fits(config, devices, error):
        if isinstance(result, Exception):
            print(f"with        {options}: {result}", flush=True)
            continue
        return _refuse(f"{error}; try {options}, which was compiled and fits")
    return _refuse(f"{error}; try more chips: recomputing, fsdp and smaller batches alone do not make it fit")


def report(figures: Mapping[str, Any]) -> list[str]:
    """The figures as lines to read."""
    of_chip, roofline = figures["hbm_per_chip"], figures["roofline"]
    share = f", {of_chip['share']:.0%} of the chip's" if "share" in of_chip else ""
    lines = [
        f"compiled    in {figures['compile_seconds']:.0f} s for {figures['chips']} × {figures['chip']}, mesh "
        f"{figures['mesh']}, {figures['clips_per_chip']} clips a chip",
        f"memory      {of_chip['total'] / GIB:.2f} GiB a chip{share}: arguments "
        f"{of_chip['arguments'] / GIB:.2f}, temporaries {of_chip['temporaries'] / GIB:.2f}, program "
        f"{of_chip['program'] / GIB:.2f}",
        f"temporaries {figures['temp_bytes_per_clip'] / 1e6:.1f} MB a clip",
        f"traffic     {figures['hbm_bytes_per_clip'] / 1e6:.0f} MB a clip of main memory "
        f"({figures['hbm_padded_bytes_per_clip'] / 1e6:.0f} with the padding of tiles), "
        f"{figures['all_bytes_per_clip'] / 1e6:.0f} with on-chip memory",
        f"arithmetic  {figures['flops_per_clip'] / 1e9:.2f} GFLOP a clip, of which the model needs "
        f"{figures['analytic_flops_per_clip'] / 1e9:.2f}",
    ]
    if roofline:
        lines.append(
            f"roofline    bound by {roofline['bound']}: {roofline['memory_seconds'] * 1e3:.1f} ms for "
            f"memory, {roofline['arithmetic_seconds'] * 1e3:.1f} ms for arithmetic; at most "
            f"{roofline['clips_per_second_per_chip']:,.0f} clips/s a chip, model-FLOP utilisation "
            f"{roofline['model_flop_utilisation']:.0%}"
        )
    own = ", ".join(f"{name} {value:.3g}" for name, value in figures["cost_analysis"].items())
    lines.append(f"compiler's  own count of a step, with a loop's body once and no kernels: {own}")
    if figures["unknown_loops"]:
        lines.append(
            f"counted     once, for their turns are not known: {', '.join(figures['unknown_loops'])}"
        )
    lines += ["", f"{'messages':>16} {'times':>6} {'MB each':>8} {'MB a step':>9}  beside other work   from"]
    lines += [
        f"{message['kind']:>16} {message['times']:>6} {message['bytes'] / 1e6:>8.2f} "
        f"{message['total'] / 1e6:>9.2f}  {'yes' if message['asynchronous'] else 'no':<18} "
        f" {message['origin'][-60:]}"
        for message in figures["collectives"]
    ]
    lines += ["", "MB of main memory a clip, by part of the model"]
    lines += [f"{moved / 1e6:>8.1f}  {place}" for place, moved in figures["places"].items()]
    lines += ["", "what moves most, MB of main memory a clip"]
    lines += [
        f"{each['hbm_bytes_per_clip'] / 1e6:>8.2f}  {each['times']:>3} × {each['name']:<32} "
        f"{each['origin'][-70:]}"
        for each in figures["largest"]
    ]
    return lines


if __name__ == "__main__":
    define_flags()
    config_flag.run(main)
