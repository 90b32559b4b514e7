"""A run that an older version of the code began: its checkpoint of step 2, and how that version ended it.

`goldens/older_run.tar.xz` holds the checkpoint. `goldens/older_run.json` holds the metrics of steps 3 to 6, a
hash and the norm of every array of the final state, and the machine that computed them.
"""

import hashlib
import json
import tarfile
from pathlib import Path

import jax
import jaxlib
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from hicmae_jax.checkpoints import reader
from hicmae_jax.logs.metrics import read_metrics
from tests.support.paths import GOLDENS

FIRST_STEP = 2
CHECKPOINT, ENDING = GOLDENS / "older_run.tar.xz", GOLDENS / "older_run.json"


def unpack(run: Path) -> None:
    """Make the directory of a run that has the older version's checkpoint and nothing else."""
    with tarfile.open(CHECKPOINT) as archive:
        archive.extractall(run / "checkpoints", filter="data")


def recorded() -> dict:
    """How the older version ended the run."""
    return json.loads(ENDING.read_text(encoding="utf-8"))


def ending(run: Path) -> dict:
    """How a finished run ended, in the form of `recorded`."""
    lines = [
        {name: value for name, value in line.items() if not name.startswith("time/")}
        for line in read_metrics(run)
        if line["step"] > FIRST_STEP
    ]
    state = _last_state(run)
    return {
        "machine": machine(),
        "metrics": lines,
        "hashes": {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in state.items()},
        "norms": {name: float(np.linalg.norm(array.astype(np.float64))) for name, array in state.items()},
    }


def machine() -> dict[str, str]:
    """What XLA's code for this CPU depends on."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    of_first = dict(map(str.strip, line.split(":", 1)) for line in reversed(lines) if ":" in line)
    flags = " ".join(sorted(of_first.get("flags", "").split()))
    return {
        "jaxlib": jaxlib.__version__,
        "cpu": of_first.get("model name", ""),
        "cpu_flags": hashlib.sha256(flags.encode()).hexdigest(),
    }


def _last_state(run: Path) -> dict[str, np.ndarray]:
    path = reader.find(epath.Path(run) / "checkpoints", None)
    shapes = reader.read_shapes(path)
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
    arguments = ocp.args.PyTreeRestore(item=shapes, restore_args=as_numpy)
    state = reader.read_state(path, ocp.PyTreeCheckpointHandler(), arguments)
    flat = ocp.tree.to_flat_dict(state, sep="/")
    return {name: np.asarray(leaf) for name, leaf in flat.items() if leaf is not None}
