"""Typical mistakes in a command: one line that names the thing and the remedy, and nothing is written.

Every mistake is a process of several seconds, so that only those of `QUICK` are in `make test`.
"""

import os
import shutil
import subprocess
import sys

import pytest

from hicmae_jax.checkpoints.manager import Checkpoints
from tests.support import shrunk_recipe, tiny_model
from tests.support.processes import HANG


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return shrunk_recipe.write_clips(tmp_path_factory.mktemp("data") / "set")


@pytest.fixture
def place(data, tmp_path):
    """A directory with a prepared set, raw clips, a half-prepared set, and notes that belong to no run."""
    shutil.copytree(data, tmp_path / "prepared")
    (tmp_path / "raw/dev/mp4/id00001/5r0dWxy17C8").mkdir(parents=True)
    shutil.copytree(data, tmp_path / "unfinished")
    (tmp_path / "unfinished/dataset.json").unlink()
    (tmp_path / "unfinished/plan.json").write_text("{}")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/todo.txt").write_text("buy milk")
    return tmp_path


def write_run(directory, run):
    """Write the directory of a run after its first checkpoint, with arbitrary parameters."""
    with Checkpoints(directory) as checkpoints:
        state = {"params": tiny_model.parameters(run.model, masks=run.masks)}
        checkpoints.save(3, state, {"config": run.to_dict(), "versions": {}, "data": {"prepared": "made up"}})


def files(root) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def refusal(place, arguments, **environment):
    """The only line that a command prints in `place`, by default on two devices; it must write nothing."""
    before, names = files(place), sorted(os.listdir(place))
    environment = {
        **os.environ,
        # Every compilation would add a line.
        "JAX_LOG_COMPILES": "1",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "PYTHONPATH": os.getcwd(),
        **environment,
    }
    done = subprocess.run(
        [sys.executable, "-m", "launch.pretrain", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        cwd=place,
        timeout=HANG,
    )
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert files(place) == before
    assert sorted(os.listdir(place)) == names
    (line,) = done.stderr.splitlines()
    return line


RUN = "--run=run"
# Each mistake: settings changed in a correct command, further words, and the message.
MISTAKES = {
    "a setting by another name": (
        {},
        ["--config.learning_rate=3e-4"],
        "there is no setting --config.learning_rate; the nearest is --config.optimizer.base_rate",
    ),
    "a value of another type": (
        {"batch": "many"},
        [],
        "--config.batch=many: not a whole number or none",
    ),
    "a batch that does not divide over the devices": (
        {"batch": 7, "loss.negatives": "global"},
        [],
        "batch 7 / accumulate 1, 7 clips, does not divide over 2 devices: choose a batch that is a multiple "
        "of 2",
    ),
    "a batch that does not divide into groups": (
        {"loss.negatives": "group:3"},
        [],
        "loss.negatives = 'group:3': batch / accumulate, 8 clips, is not a multiple of 3: change the groups "
        "or the batch",
    ),
    "a batch that the data do not fill": (
        {"batch": 64},
        [],
        "prepared: 20 clips are fewer than a batch of 64",
    ),
    "a directory that is not there": (
        {"data.sets": "perpared"},
        [],
        "perpared/dataset.json is missing: there is no such directory: check the path",
    ),
    "raw clips": (
        {"data.sets": "raw"},
        [],
        "raw/dataset.json is missing: this directory is not a prepared set: prepare raw clips with "
        "launch.prepare first",
    ),
    "a set that is not finished": (
        {"data.sets": "unfinished"},
        [],
        "unfinished/dataset.json is missing: its preparation did not finish: run the same launch.prepare "
        "again",
    ),
    "epochs and steps": (
        {"epochs": 3},
        [],
        "epochs 3 and steps 6 are both given: give one of them, with its warm-up, and none for the other two",
    ),
    "a size that does not exist": (
        {"size": "XL"},
        [],
        "size = 'XL': choose one of mu, T, S, B, avf-L, L, avf-H, H, g",
    ),
    "devices that fsdp does not divide": (
        {"fsdp": 3},
        [],
        "fsdp = 3 does not divide the 2 devices: choose a divisor of 2",
    ),
    "devices that are not there": (
        {},
        ["--platform=gpu"],
        "JAX finds no gpu devices here; choose another --platform",
    ),
    "a flag without its companion": (
        {},
        ["--branch_step=3"],
        "--branch_step=3 goes with --branch_from=RUN",
    ),
    "a directory of something else": (
        {},
        ["--run=notes"],
        "notes is not empty and not a run's (todo.txt, …): give a new directory",
    ),
    "a checkpoint of another model": (
        {"model.encoder_dim": 32},
        ["--run=other"],
        "the checkpoint does not fit the config: model.encoder_dim is 16 in the checkpoint, 32 in the "
        "config; set it back, or begin another run in another directory",
    ),
}


# A setting, data, a flag and devices: each is found in another stage of the start.
QUICK = {
    "a batch that does not divide into groups",
    "a directory that is not there",
    "a flag without its companion",
    "devices that are not there",
}


@pytest.mark.parametrize(
    "mistake", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in MISTAKES]
)
def test_a_mistake_is_one_line_at_once_and_writes_nothing(place, mistake):
    changes, words, message = MISTAKES[mistake]
    if "--run=other" in words:
        write_run(place / "other", shrunk_recipe.config())
    changes = {name.replace(".", "__"): value for name, value in changes.items()}
    command = shrunk_recipe.arguments("prepared", "run", **changes)
    # If a flag is given twice, the last one counts.
    assert refusal(place, command + words) == f"pretrain: {message}"


def test_a_platform_in_the_environment_that_is_not_there_is_one_line(place):
    words = shrunk_recipe.arguments("prepared", "run")
    line = refusal(place, words, JAX_PLATFORMS="abacus")
    assert line.startswith("pretrain: JAX finds no abacus devices here: ")
    assert line.endswith("; choose another --platform")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([RUN], "--config is missing: name a recipe or a file, such as --config=pretrain:B"),
        (
            [RUN, "--config=own.py:B"],
            "--config=own.py:B: there is no file own.py; the recipes are ablations, demo, evidence, "
            "finetune, pretrain, scaling",
        ),
    ],
    ids=["no configuration", "a configuration that is not there"],
)
def test_a_command_without_its_file_is_one_line(place, words, message):
    assert refusal(place, words) == f"pretrain: {message}"
