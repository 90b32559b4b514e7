"""Two processes that save one checkpoint: they agree, and both stop if one of them cannot write."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np

from hicmae_jax.checkpoints.load import load_parameters
from hicmae_jax.checkpoints.manager import Checkpoints
from tests.support.checkpoint_fixtures import damage, flip, steps_in
from tests.support.processes import HANG
from tests.support.several_hosts import free_port
from tests.support.xla_flags import xla_flags

# Each has two devices and half of the array; the second process can write no large file at the chosen step.
ONE_OF_TWO = textwrap.dedent("""
    import pathlib, resource, sys
    import jax, numpy as np
    from hicmae_jax.checkpoints import manager as module
    from hicmae_jax.training import sharding
    from hicmae_jax.checkpoints.manager import Checkpoints

    port, run, failing = sys.argv[1], sys.argv[3], sys.argv[5]
    index, full = int(sys.argv[2]), int(sys.argv[4])
    module.SECONDS_FOR_OTHERS = 1.0
    jax.distributed.initialize(f"localhost:{port}", 2, index)
    where = jax.NamedSharding(sharding.make_mesh(4), jax.P("fsdp"))
    values = np.random.default_rng(0).random(20_000, np.float32)

    def state(step):
        array = jax.make_array_from_callback(values.shape, where, lambda part: (values + step)[part])
        return {"params": {"kernel": array}}

    try:
        with Checkpoints(run, keep=1) as checkpoints:
            print(*checkpoints.last_good(), flush=True)
            for step in (1, 2, 3):
                checkpoints.wait()
                if step == full and index == 1 and failing != "no directory":
                    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, 1_000))
                if step == full and failing == "no directory":
                    if index == 0:  # a file in the way of the directory of checkpoints
                        pathlib.Path(run, "checkpoints").rename(pathlib.Path(run, "kept"))
                        pathlib.Path(run, "checkpoints").touch()
                    checkpoints.save(step, state(step), {"step": step})
                checkpoints.save(step, state(step), {"step": step})
                if failing and step == full:
                    raise ValueError("no clip can be read")
            checkpoints.wait()
            restored = checkpoints.restore(state(3))
            print(checkpoints.latest_step(), checkpoints.read_record())
    except (RuntimeError, ValueError) as error:
        sys.exit(str(error))
    for name, saved in state(3)["params"].items():
        for mine, theirs in zip(saved.addressable_shards, restored["params"][name].addressable_shards):
            np.testing.assert_array_equal(mine.data, theirs.data)
""")


def run_two(run, full=0, failing=""):
    """Exit codes and outputs of both processes."""
    port = str(free_port())
    environment = os.environ | {"XLA_FLAGS": xla_flags(2)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ONE_OF_TWO, port, str(index), str(run), str(full), failing],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for index in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=HANG) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], outputs


def test_two_processes_save_one_checkpoint_and_agree_on_what_is_whole(tmp_path):
    codes, outputs = run_two(tmp_path)
    assert codes == [0, 0], outputs
    for out, _ in outputs:
        assert out.splitlines()[-2:] == ["None []", "3 {'step': 3}"]
    assert steps_in(tmp_path) == [3]
    params, record = load_parameters(tmp_path)
    assert record == {"step": 3}
    np.testing.assert_array_equal(params["kernel"], np.random.default_rng(0).random(20_000, np.float32) + 3)

    damage(tmp_path, 3, "state/ocdbt.process_1/d/*", flip)
    codes, outputs = run_two(tmp_path)
    assert codes == [1, 1]
    for _, err in outputs:
        assert "every checkpoint is damaged (step 3: state/ocdbt.process_1/d/" in err.splitlines()[-1]


def test_if_one_of_two_processes_cannot_write_both_stop_and_say_so(tmp_path):
    codes, outputs = run_two(tmp_path, full=2)
    assert codes == [1, 1]
    # Orbax prints more lines before and after.
    (line,) = {line for _, err in outputs for line in err.splitlines() if "was not saved" in line}
    assert line.startswith(f"host 1: {tmp_path}/checkpoints: the checkpoint of step 2 was not saved: ")
    assert "File too large" in line
    assert line.endswith("; mend that, and give the same command to go on from step 1")
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.last_good() == (1, [])


def test_if_the_run_fails_too_no_process_waits_long_for_a_part_that_another_could_not_write(tmp_path):
    codes, outputs = run_two(tmp_path, full=2, failing="yes")
    assert codes == [1, 1]
    assert "no clip can be read" in outputs[0][1].splitlines()
    assert "/checkpoints: the checkpoint of step 2 was not saved: " in outputs[1][1]
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.last_good() == (1, [])


def test_if_the_first_process_cannot_make_the_directory_both_stop_and_say_so(tmp_path):
    codes, outputs = run_two(tmp_path, full=2, failing="no directory")
    assert codes == [1, 1]
    for _, err in outputs:
        assert f"host 0: {tmp_path}/checkpoints: the checkpoint of step 2 was not saved: " in err
        assert "Not a directory" in err


def test_two_processes_save_one_checkpoint_in_a_bucket(bucket):
    run = "gs://shop/run"
    codes, outputs = run_two(run)
    assert codes == [0, 0], outputs
    for out, _ in outputs:
        assert out.splitlines()[-2:] == ["None []", "3 {'step': 3}"]
    names = bucket.under(f"{run}/checkpoints")
    assert {name.split("/")[0] for name in names} == {"3", "steps.json"}
    sealed = json.loads(names["3/checksums.json"])["files"]
    assert any(name.startswith("state/ocdbt.process_1/d/") for name in sealed)
    assert {f"3/{name}" for name in sealed} | {"3/checksums.json", "steps.json"} == set(names)
    params, _ = load_parameters(run)
    np.testing.assert_array_equal(params["kernel"], np.random.default_rng(0).random(20_000, np.float32) + 3)
