"""Compare versions of `Checkpoints` and Orbax alone: seconds until `save` returns, and until all is done.

    python benchmarks/checkpoint_managers.py --versions=/tmp/before,/tmp/after --directory=/tmp/saves

Each version is a checkout of this repository. All take turns in one process, because the disk's speed varies.
"""

import argparse
import importlib
import os
import pathlib
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

ARRAYS, BYTES = 300, 1_000_000
Save = Callable[[int], tuple[float, float]]


def main() -> None:
    """Save in turns and print the medians; the first save of each does not count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--versions", type=lambda text: text.split(","), required=True)
    parser.add_argument("--directory", type=pathlib.Path, required=True, help="is emptied")
    parser.add_argument("--times", type=int, default=5)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    state = {"params": {f"{n:03}": jax.device_put(rng.random(BYTES // 4, np.float32)) for n in range(ARRAYS)}}
    shutil.rmtree(arguments.directory, ignore_errors=True)
    saves: dict[str, Save] = {
        version: saver_of(version, arguments.directory / str(number), state)
        for number, version in enumerate(arguments.versions)
    }
    saves["bare Orbax"] = bare_saver(arguments.directory / "bare", state)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in saves}
    for step in range(arguments.times + 1):
        for name, save in saves.items():
            os.sync()
            seconds[name].append(save(step))
    for name, pairs in seconds.items():
        returned, complete = (statistics.median(column) for column in zip(*pairs[1:], strict=True))
        lists = ", ".join(f"{one:.3f}/{other:.2f}" for one, other in pairs[1:])
        print(f"{name}: returns after {returned:.3f} s, complete after {complete:.2f} s ({lists})")


def saver_of(version: str, run: pathlib.Path, state: Any) -> Save:
    """A function that saves with the `Checkpoints` of a checkout."""
    for name in [name for name in sys.modules if name.split(".")[0] in ("hicmae_jax", "data_pipeline")]:
        del sys.modules[name]
    sys.path.insert(0, version)
    module = importlib.import_module("hicmae_jax.checkpoints.manager")
    sys.path.remove(version)
    assert str(module.__file__).startswith(version), module.__file__
    checkpoints = module.Checkpoints(run, keep=1)
    return lambda step: timed(lambda: checkpoints.save(step, state, {"config": {}}), checkpoints.wait)


def bare_saver(run: pathlib.Path, state: Any) -> Save:
    """A function that saves with Orbax's manager alone: no checksums, nothing flushed to the disk."""
    manager = ocp.CheckpointManager(run, options=ocp.CheckpointManagerOptions(max_to_keep=1))
    arguments = ocp.args.Composite(state=ocp.args.StandardSave(state))
    return lambda step: timed(lambda: manager.save(step, args=arguments), manager.wait_until_finished)


def timed(save: Callable[[], object], wait: Callable[[], object]) -> tuple[float, float]:
    """Seconds until `save` has returned, and until `wait` has."""
    begun = time.perf_counter()
    save()
    returned = time.perf_counter()
    wait()
    return returned - begun, time.perf_counter() - begun


if __name__ == "__main__":
    main()
