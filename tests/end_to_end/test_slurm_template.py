"""`slurm.sh` with a real run of two processes: SIGTERM, exit code 75, queued again, finished."""

import json
import os
import shlex
import signal
import subprocess
import sys

import pytest

from tests.support import shrunk_recipe
from tests.support.filled_templates import filled
from tests.support.paths import ROOT
from tests.support.processes import HANG, descendants, wait_until
from tests.support.several_hosts import environment, free_port

pytestmark = pytest.mark.slow

FIRST_PORT = 61440
"""JAX adds the number of Slurm's job to this."""
STEPS = 12


def program(path, line):
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/usr/bin/env bash\n{line}\n", encoding="utf-8")
    path.chmod(0o755)


def write_script(directory):
    """The template as a user fills it, with a small model on CPUs."""
    program(directory / "bin" / "hicmae", f'exec {sys.executable} -m launch "$@"')
    stand_in = ROOT / "tests/support/stand_in_srun.py"
    program(directory / "programs" / "srun", f'exec {sys.executable} {stand_in} "$@"')
    program(directory / "programs" / "scontrol", f'echo "$@" >> {directory}/requeued.txt')
    run, data = directory / "run", shrunk_recipe.write_clips(directory / "set")
    text = filled(
        "slurm.sh",
        directory_of_the_environment=str(directory),
        prepared_sets=str(data),
        directory_of_the_run=str(run),
    )
    given = ("--config=", "--config.data.sets", "--config.data.threads", "--run")
    words = shrunk_recipe.arguments(data, run, steps=STEPS, checkpoint__every=1000)
    small = "".join(f"  {shlex.quote(word)}\n" for word in words if not word.startswith(given))
    script = directory / "slurm.sh"
    script.write_text(text.replace("--platform=gpu\n", f"--platform=cpu\n{small}"), encoding="utf-8")
    return script, run


def logged(run):
    log = run / "metrics.jsonl"
    return [json.loads(line)["step"] for line in log.read_text().splitlines()] if log.exists() else []


def test_a_job_is_stopped_queued_again_and_finishes(compiled, tmp_path):
    script, run = write_script(tmp_path)
    job = str(free_port(range(FIRST_PORT, FIRST_PORT + 4096)) - FIRST_PORT)
    slurm = {"SLURM_JOB_ID": job, "SLURM_NTASKS": "2", "SLURM_CPUS_PER_TASK": "1"}
    given = environment(
        compiled, 1, **slurm, PATH=f"{tmp_path}/programs:{os.environ['PATH']}", PYTHONPATH=str(ROOT)
    )

    def start():
        return subprocess.Popen(["bash", script], env=given, cwd=tmp_path, stderr=subprocess.PIPE, text=True)

    first = start()
    wait_until(lambda: len(logged(run)) > 1 or first.poll() is not None)
    for step in descendants(first.pid):  # Slurm gives the signal to the job's step, not to its script
        os.kill(step, signal.SIGTERM)
    _, said = first.communicate(timeout=HANG)
    assert first.returncode == 75, said
    assert (tmp_path / "requeued.txt").read_text() == f"requeue {job}\n"
    assert logged(run)[-1] < STEPS

    second = start()
    _, said = second.communicate(timeout=HANG)
    assert second.returncode == 0, said
    assert (tmp_path / "requeued.txt").read_text() == f"requeue {job}\n"
    assert logged(run) == list(range(1, STEPS + 1))
