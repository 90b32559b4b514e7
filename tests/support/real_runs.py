"""Reading what a real run has left in its directory."""

from pathlib import Path
from typing import Any

import jax

from hicmae_jax.checkpoints.manager import Checkpoints
from hicmae_jax.logs.metrics import FILE, read_metrics
from hicmae_jax.runs import build
from hicmae_jax.training import sharding
from tests.support import shrunk_recipe


def count_lines(directory: Path) -> int:
    """The number of lines in the log of metrics; 0 before there is one."""
    file = directory / FILE
    return file.read_bytes().count(b"\n") if file.exists() else 0


def lines_without_times(directory: Path) -> list[dict[str, Any]]:
    """The lines of the log of metrics without their times: the rest is the same whenever the run is made."""
    return [
        {name: value for name, value in line.items() if not name.startswith("time/")}
        for line in read_metrics(directory)
    ]


def last_state(directory: Path, data: Path, **settings: Any) -> tuple[int | None, Any]:
    """The step of the last checkpoint, and the whole state in it, of a run of the shrunk recipe."""
    config = shrunk_recipe.config(data, **settings)
    _, abstract = build.abstract_run(config, config.optimizer_config(1), sharding.make_mesh())
    with Checkpoints(directory) as checkpoints:
        return checkpoints.latest_step(), jax.device_get(checkpoints.restore(abstract))
