"""Compare the project's checkpoints with Orbax's CheckpointManager: how long a run waits for each.

    python -m benchmarks.checkpoint_managers

The project's checkpoints are flushed to the disk, counted and sealed with checksums; Orbax's are not. Both
take turns in one process, because the speed of a disk varies.
"""

import argparse
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping

import jax
import numpy as np
import orbax.checkpoint as ocp

from hicmae_jax.checkpoints.manager import Checkpoints

State = Mapping[str, Mapping[str, jax.Array]]
Save = Callable[[int], tuple[float, float]]


def main() -> None:
    """Save in turns, and print the medians; the first save of each does not count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arrays", type=int, default=300)
    parser.add_argument("--kilobytes", type=int, default=1000, help="of each array")
    parser.add_argument("--times", type=int, default=7)
    arguments = parser.parse_args()
    draw, values = np.random.default_rng(0), 250 * arguments.kilobytes
    arrays = {f"{n:03}": jax.device_put(draw.random(values, np.float32)) for n in range(arguments.arrays)}
    with tempfile.TemporaryDirectory(prefix="checkpoints-") as directory:
        medians = compare(pathlib.Path(directory), {"params": arrays}, arguments.times)
    for name, (returned, complete) in medians.items():
        print(f"{name:10} returns after {returned:.3f} s, complete after {complete:.2f} s")
    (ours, whole), (theirs, bare) = medians.values()
    print(f"ratio      {ours / theirs:.2f} until it returns, {whole / bare:.2f} until it is complete")


def compare(directory: pathlib.Path, state: State, times: int) -> dict[str, tuple[float, float]]:
    """Name → median seconds until a save returns, and until it is complete."""
    saves = {
        "project": of_project(directory / "project", state),
        "Orbax": of_orbax(directory / "orbax", state),
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in saves}
    for step in range(times + 1):
        for name, save in saves.items():
            os.sync()
            seconds[name].append(save(step))
    medians = {}
    for name, taken in seconds.items():
        returned, complete = zip(*taken[1:], strict=True)
        medians[name] = statistics.median(returned), statistics.median(complete)
    return medians


def of_project(run: pathlib.Path, state: State) -> Save:
    """Saves with `Checkpoints`."""
    checkpoints = Checkpoints(run, keep=1)
    return lambda step: timed(lambda: checkpoints.save(step, state, {"config": {}}), checkpoints.wait)


def of_orbax(run: pathlib.Path, state: State) -> Save:
    """Saves with Orbax's manager alone: no checksums, nothing flushed to the disk."""
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
