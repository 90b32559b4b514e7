"""The command on several hosts, as real processes: it begins on all of them, or ends on all with one line."""

import json
import os
import shutil
from types import SimpleNamespace

import pytest

from launch import host_flags
from tests.support import shrunk_recipe
from tests.support.several_hosts import environment, finish, free_port, start, start_hosts

# JAX adds the number of a cluster's job to this.
FIRST_PORT = 61440


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return shrunk_recipe.write_clips(tmp_path_factory.mktemp("data") / "set")


def refused(processes):
    """Wait until all processes have ended, each with one line and nothing done; the lines."""
    ended = finish(processes)
    for code, out, err in ended:
        said = [line for line in out.splitlines() if not line.startswith("[Gloo]")]
        assert (code, said, err.count("\n")) == (1, [], 1), (code, out, err)
    return [err.removeprefix("pretrain: ").rstrip("\n") for _, _, err in ended]


# --- Finding hosts ------------------------------------------------------------------------------------------


@pytest.fixture
def given(monkeypatch):
    """A function that sets flags; variables of a real cluster are removed."""
    for name in os.environ:
        if name.startswith(("SLURM_", "OMPI_")):
            monkeypatch.delenv(name)

    def give(**flags):
        nothing = {"distributed": False, "coordinator": None, "processes": None, "process": None}
        monkeypatch.setattr(host_flags, "FLAGS", SimpleNamespace(**nothing | {"wait_for_hosts": 1} | flags))

    return give


def slurm(process, job=7):
    return {
        "SLURM_JOB_ID": str(job),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": str(process),
        "SLURM_LOCALID": "0",
    }


def open_mpi(process, job=7):
    return {
        "OMPI_MCA_orte_hnp_uri": f"{job * 2**12}.0;tcp://127.0.0.1:34911",
        "OMPI_COMM_WORLD_SIZE": "2",
        "OMPI_COMM_WORLD_RANK": str(process),
        "OMPI_COMM_WORLD_LOCAL_RANK": "0",
    }


@pytest.mark.parametrize(("cluster", "host"), [(slurm, "localhost"), (open_mpi, "127.0.0.1")])
def test_coordinator_and_process_numbers_come_from_the_cluster(given, monkeypatch, cluster, host):
    for name, value in cluster(1).items():
        monkeypatch.setenv(name, value)
    given(distributed=True)
    assert host_flags.find() == (f"{host}:{FIRST_PORT + 7}", 2, 1)


def test_without_flags_there_is_one_process_even_on_a_cluster(given, monkeypatch):
    for name, value in slurm(1).items():
        monkeypatch.setenv(name, value)
    given()
    assert host_flags.find() is None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            {"distributed": True},
            "--distributed finds no TPU pod, Slurm, Open MPI or Kubernetes: give --coordinator",
        ),
        ({"process": 1}, "--coordinator, --processes and --process go together"),
        ({"coordinator": "a:1", "processes": 2, "process": 2}, "--process=2 is not below --processes=2"),
        ({"coordinator": "a", "processes": 2, "process": 1}, "--coordinator='a' is not HOST:PORT"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(given, flags, message):
    given(**flags)
    with pytest.raises(ValueError, match=message):
        host_flags.find()


# --- Beginning ----------------------------------------------------------------------------------------------


def test_hosts_with_different_commands_name_the_difference(data, compiled, tmp_path):
    arguments = [shrunk_recipe.arguments(data, tmp_path / "run", batch=batch) for batch in (8, 16)]
    lines = refused(start_hosts(arguments, compiled, 1))
    message = "the hosts are not alike: config.batch is 8 on host 0, 16 on host 1. Give every host the same"
    assert all(line.startswith(message) for line in lines)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("case", ["other data", "no data", "other code", "no room", "a missing host"])
def test_what_is_wrong_on_one_host_is_reported_on_all(data, compiled, tmp_path, case):
    here, there = tmp_path / "0", tmp_path / "1"
    for directory in (here, there):
        directory.mkdir()
    shutil.copytree(data, here / "set")
    root = os.getcwd()
    variables = [{"PYTHONPATH": root}, {"PYTHONPATH": root}]
    arguments = shrunk_recipe.arguments("set", tmp_path / "run")
    arguments[0] = f"--config={root}/configs/pretrain.py:B"
    expected = []
    if case == "other data":
        shutil.copytree(data, there / "set")
        about = json.loads((there / "set/dataset.json").read_text())
        (there / "set/dataset.json").write_text(json.dumps(about | {"fingerprint": "another"}))
        expected = ["the hosts are not alike: data.set is '"] * 2
    elif case == "no data":
        expected = ["host 1: set/dataset.json is missing", "set/dataset.json is missing"]
    else:
        shutil.copytree(data, there / "set")
    if case == "other code":
        for package in ("hicmae_jax", "data_pipeline", "launch"):
            shutil.copytree(package, tmp_path / "copy" / package)
        variables[1] = {"PYTHONPATH": str(tmp_path / "copy")}
        expected = ["the hosts are not alike: code.commit is '"] * 2
    elif case == "no room":
        arguments[1] = f"--run={tmp_path}/file/run"
        (tmp_path / "file").write_text("")
        message = f"{tmp_path}/file/run cannot be written (Not a directory): give another directory"
        expected = [message, f"host 0: {message}"]
    flags = [f"--coordinator=localhost:{free_port()}", "--processes=2"]
    if case == "a missing host":
        flags.append("--wait_for_hosts=1")
    started = [
        start([*arguments, *flags, f"--process={i}"], environment(compiled, 1, **variables[i]), directory)
        for i, directory in enumerate([here, there])
        if not (i and case == "a missing host")
    ]
    if case == "a missing host":
        expected = ["host 1 of 2 has not come within 1 s (here are 0 on "]
    lines = refused(started)
    assert len(lines) == len(expected)
    for line, beginning in zip(lines, expected):
        assert line.startswith(beginning)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("cluster", [slurm, open_mpi])
def test_processes_started_by_a_cluster_connect(compiled, tmp_path, cluster):
    job = free_port(range(FIRST_PORT, 65_536)) - FIRST_PORT
    given = [environment(compiled, 1, **cluster(process, job)) for process in (0, 1)]
    arguments = [*shrunk_recipe.arguments("nowhere", tmp_path / "run"), "--distributed"]
    lines = refused([start(arguments, own) for own in given])
    # They compare their data only once they are connected.
    assert all(line.startswith("nowhere/dataset.json is missing") for line in lines)
