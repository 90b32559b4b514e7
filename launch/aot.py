"""Compile a run's train step for TPUs or GPUs that this machine does not have, and print what it costs there.

    python -m launch.aot --config=pretrain:B --config.batch=256 --config.loss.negatives=global \
        --topology=v5p:2x2x1 [--json=b.json] [--text=b.hlo]

`pip install 'hicmae_jax[tpu]'` installs the TPU compiler, which needs no TPU, and 'hicmae_jax[cuda]' the GPU
compiler, which needs no GPU. `--topology=h200:2x8` stands for two hosts of eight GPUs. Compiling takes
minutes on one core. `docs/scale.md` explains the figures.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from data_pipeline.common.errors import CommandError
from launch import command, config_flag

if TYPE_CHECKING:
    import jax

    from hicmae_jax.aot.compile import DoesNotFitError
    from hicmae_jax.settings.pretrain import PretrainSettings

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Declare the flags; not at import, because other commands have flags of the same names."""
    flags.DEFINE_string("topology", None, "Chip and network, such as v5e:16x16 or h200:2x8.", required=True)
    flags.DEFINE_string("json", None, "File to write all figures to.")
    flags.DEFINE_string("text", None, "File to write the compiled program to.")
    flags.DEFINE_bool(
        "search",
        True,
        "If the step does not fit: compile changed settings until one fits. With --nosearch: name a change "
        "that should suffice by an estimate.",
    )


def main(argv: list[str]) -> int:
    """Compile the step and print its figures.

    Returns:
        The exit code: 1 if the step does not fit or a setting is wrong.
    """
    del argv
    import jax

    jax.config.update("jax_platforms", "cpu")  # do not occupy a TPU or GPU that this machine may have
    from hicmae_jax.aot import compile as aot_compile
    from hicmae_jax.aot import topology
    from hicmae_jax.aot.figures import figures
    from hicmae_jax.aot.report import report
    from hicmae_jax.settings import pretrain as run_config

    for path in filter(None, (FLAGS.json, FLAGS.text)):
        if not Path(path).absolute().parent.is_dir():
            raise ValueError(f"{path} cannot be written: there is no directory {Path(path).parent}")
    given = FLAGS.config
    if not given.data.sets:
        with given.unlocked():
            given.data.sets = ("any",)  # a run needs a data set; compiling reads none
    config = run_config.from_config_dict(given, topology.platform(FLAGS.topology))
    devices = topology.devices(FLAGS.topology)
    print(f"compiling   {config.size}, batch {config.batch:,}, for {FLAGS.topology}", flush=True)
    try:
        step = aot_compile.compile_step(config, devices)
    except aot_compile.DoesNotFitError as error:
        raise CommandError(f"{error}; try {_find_change(config, devices, error)}") from error
    found = {
        "topology": FLAGS.topology,
        "size": config.size,
        "batch": config.batch,
        "fsdp": config.fsdp,
        "accumulate": config.accumulate,
        "negatives": config.loss.negatives,
    } | figures(step, config)
    for line in report(found):
        print(line)
    if FLAGS.json:
        Path(FLAGS.json).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if FLAGS.text:
        Path(FLAGS.text).write_text(step.text, encoding="utf-8")
    return 0


def _find_change(
    config: "PretrainSettings", devices: "Sequence[jax.Device]", error: "DoesNotFitError"
) -> str:
    """A change of settings that makes the step fit, in words."""
    from hicmae_jax.aot import fit_memory

    if not FLAGS.search:
        estimated = fit_memory.changes(config, devices, error.needed - error.available)
        options = next((options for options, _ in estimated), "more chips")
        return f"{options}, by an estimate of what that saves"
    print(error, flush=True)
    for options, result in fit_memory.first_that_fits(config, devices, error):
        if isinstance(result, Exception):
            print(f"with        {options}: {result}", flush=True)
            continue
        return f"{options}, which was compiled and fits"
    return "more chips: recomputing, fsdp and smaller batches do not make it fit"


if __name__ == "__main__":
    command.run("aot", define_flags, main, parse=config_flag.parse)
