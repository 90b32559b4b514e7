"""After errors, full disks, kills and flipped bits, a whole checkpoint remains and is found."""

import contextlib
import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorstore
from etils import epath

from hicmae_jax.checkpoints import checksums, reader
from hicmae_jax.checkpoints.checksums import SEAL
from hicmae_jax.checkpoints.load import PARAMETERS, find_step, load_parameters
from hicmae_jax.checkpoints.manager import Checkpoints
from hicmae_jax.training import sharding
from tests.support.checkpoint_fixtures import RECORD, assert_same_bits, damage, flip, one_array, steps_in
from tests.support.corpus_fixtures import tree

# --- Failures of a save -------------------------------------------------------------------------------------


@contextlib.contextmanager
def files_limited_to(size):
    """Writing more bytes than this into a file fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    "then",
    [Checkpoints.wait, lambda checkpoints: checkpoints.save(3, one_array(), RECORD), Checkpoints.close],
    ids=["wait", "save", "close"],
)
def test_a_failed_save_is_an_error_and_keeps_the_previous_checkpoint(tmp_path, then):
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(1, one_array(), RECORD)
    checkpoints.wait()
    message = r"checkpoints: the checkpoint of step 2 was not saved: .*File too large"
    with files_limited_to(10_000):
        checkpoints.save(2, one_array(size=100_000), RECORD)
        with pytest.raises(RuntimeError, match=message):
            then(checkpoints)
    checkpoints.close()  # an error is raised only once
    assert_same_bits(load_parameters(tmp_path)[0], one_array()[PARAMETERS])
    with Checkpoints(tmp_path) as again:
        assert again.latest_step() == 1
        again.save(2, one_array(), RECORD)
    assert steps_in(tmp_path) == [1, 2]


def fails_with(number):
    def fails(*_, **__):
        raise OSError(number, os.strerror(number))

    return fails


@pytest.mark.parametrize("where", ["seal", "sync"])
def test_an_unsealed_checkpoint_does_not_count_and_the_previous_one_is_kept(tmp_path, where, monkeypatch):
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(1, one_array(), RECORD)
        checkpoints.wait()
        with monkeypatch.context() as full:
            full.setattr(checksums, where, fails_with(errno.ENOSPC))
            checkpoints.save(2, one_array(size=10), RECORD)
            with pytest.raises(RuntimeError) as stopped:
                checkpoints.wait()
        assert str(stopped.value) == (
            f"{tmp_path}/checkpoints: the checkpoint of step 2 was not saved: OSError: [Errno 28] No space "
            "left on device; mend that, and give the same command to go on from step 1"
        )
        assert checkpoints.latest_step() == 1
    assert_same_bits(load_parameters(tmp_path)[0], one_array()[PARAMETERS])
    with Checkpoints(tmp_path, keep=1) as again:
        assert again.last_good() == (1, [])
        again.save(2, one_array(), RECORD)
    assert steps_in(tmp_path) == [2]


def test_a_disk_that_fills_up_at_the_seal_keeps_the_previous_checkpoint(tmp_path, monkeypatch):
    seal, before = checksums.seal, resource.getrlimit(resource.RLIMIT_FSIZE)

    def seal_on_a_full_disk(directory):
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
        try:
            seal(directory)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(1, one_array(), RECORD)
    checkpoints.wait()
    monkeypatch.setattr(checksums, "seal", seal_on_a_full_disk)
    checkpoints.save(2, one_array(), RECORD)
    with pytest.raises(RuntimeError, match=r"step 2 was not saved: OSError: .* File too large"):
        checkpoints.close()
    assert load_parameters(tmp_path)[1] == RECORD
    assert find_step(tmp_path) == 1


def test_a_checkpoint_that_lacks_an_array_is_not_counted(tmp_path, monkeypatch):
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(1, one_array(), RECORD)
        checkpoints.wait()
        check = reader.check_written
        monkeypatch.setattr(reader, "check_written", lambda path, arrays: check(path, arrays + 1))
        checkpoints.save(2, one_array(), RECORD)
        with pytest.raises(RuntimeError, match=r"not saved: ValueError: 1 arrays were written, of 2"):
            checkpoints.wait()
    assert find_step(tmp_path) == 1


def test_a_part_that_was_not_written_is_found(tmp_path):
    """At once, and not when a run resumes from the checkpoint."""
    split = jax.sharding.NamedSharding(sharding.make_mesh(fsdp=4), jax.P(sharding.FSDP))
    state = {PARAMETERS: {"kernel": jax.device_put(np.ones(8, np.float32), split), "step": np.int32(3)}}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, RECORD)
    directory = epath.Path(tmp_path / "checkpoints/1")
    reader.check_written(directory, 2)
    database = tensorstore.KvStore.open(
        {"driver": "ocdbt", "base": f"file://{directory / 'state'}/"}
    ).result()
    (part,) = [name for name in database.list().result() if name.endswith(b"kernel/2")]
    database.write(part, None).result()
    with pytest.raises(ValueError, match=r"7 parts of params\.kernel were written, of 8"):
        reader.check_written(directory, 2)


def test_old_checkpoints_that_cannot_be_deleted_stop_the_run_but_lose_nothing(tmp_path, monkeypatch):
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(1, one_array(), RECORD)
        checkpoints.wait()
        rmtree = shutil.rmtree

        def refuses_old(path):
            (fails_with(errno.EACCES) if str(path).endswith("checkpoints/1") else rmtree)(path)

        monkeypatch.setattr(shutil, "rmtree", refuses_old)
        checkpoints.save(2, one_array(), RECORD)
        message = r"step 2 is saved, but older ones were not removed: .*denied; .* to go on from step 2$"
        with pytest.raises(RuntimeError, match=message):
            checkpoints.wait()
        monkeypatch.undo()
    with Checkpoints(tmp_path) as again:
        assert again.last_good() == (2, [])
    assert steps_in(tmp_path) == [2]


def test_the_last_save_is_completed_before_an_error_of_the_run_is_raised(tmp_path):
    def train():
        with Checkpoints(tmp_path) as checkpoints:
            checkpoints.save(1, one_array(size=1_000_000), RECORD)
            raise OSError("no clip can be read")

    with pytest.raises(OSError, match="no clip"):
        train()
    assert load_parameters(tmp_path)[1] == RECORD


# --- Kills -------------------------------------------------------------------------------------------------

# Saves steps 1 and 2, keeping one, and dies at a chosen moment of the second save.
KILLED = textwrap.dedent("""
    import os, shutil, signal, sys
    import jax, jax.numpy as jnp
    from hicmae_jax.checkpoints import checksums
    from hicmae_jax.checkpoints.manager import Checkpoints

    def die(*arguments, **options):
        os.kill(os.getpid(), signal.SIGKILL)

    rename, replace, rmtree = os.rename, os.replace, shutil.rmtree
    old = sys.argv[1] + "/checkpoints/1"
    moments = {
        "writing": lambda: setattr(checksums, "seal", die),
        "sealing": lambda: setattr(os, "replace", lambda a, b: (die if "json" in str(a) else replace)(a, b)),
        "naming": lambda: setattr(os, "rename", lambda a, b: (die if "json" not in str(a) else rename)(a, b)),
        "removing": lambda: setattr(shutil, "rmtree", lambda a: (die if str(a) == old else rmtree)(a)),
    }
    checkpoints = Checkpoints(sys.argv[1], keep=1)
    checkpoints.save(1, {"params": {"kernel": jnp.arange(4.0)}}, {"step": 1})
    checkpoints.wait()
    moments[sys.argv[2]]()
    checkpoints.save(2, {"params": {"kernel": jnp.ones(4)}}, {"step": 2})
    checkpoints.wait()
""")


@pytest.mark.parametrize(
    ("moment", "left", "step"),
    [
        ("writing", {"1", "2.orbax-checkpoint-tmp"}, 1),
        ("sealing", {"1", "2.orbax-checkpoint-tmp"}, 1),
        ("naming", {"1", "2.orbax-checkpoint-tmp"}, 1),
        ("removing", {"1", "2"}, 2),
    ],
)
def test_a_run_killed_while_it_saves_goes_on_from_a_whole_checkpoint(tmp_path, moment, left, step):
    command = [sys.executable, "-c", KILLED, str(tmp_path), moment]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == left
    assert load_parameters(tmp_path)[1] == {"step": step}
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.last_good() == (step, [])
        assert steps_in(tmp_path) == [step]
        checkpoints.save(3, {"params": {"kernel": jnp.ones(4)}}, {"step": 3})
    assert steps_in(tmp_path) == [step, 3]
    assert load_parameters(tmp_path)[1] == {"step": 3}


# --- Damage -------------------------------------------------------------------------------------------------

KINDS = ["state/manifest.ocdbt", "state/_METADATA", "state/d/*", "state/ocdbt.process_0/d/*", "record.json"]


def halve(path):
    os.truncate(path, path.stat().st_size // 2)


@pytest.fixture
def three(tmp_path):
    """A run with checkpoints of steps 1, 2 and 3."""
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, one_array(size=step), RECORD | {"step": step})
    return tmp_path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", [flip, halve, os.remove])
def test_a_damaged_latest_checkpoint_is_moved_away_and_the_previous_one_is_used(three, kind, how):
    name = damage(three, 3, kind, how)
    with pytest.raises(ValueError, match=rf"checkpoints/3: the checkpoint of step 3 is damaged \({name} "):
        load_parameters(three)
    with Checkpoints(three) as checkpoints:
        step, (line,) = checkpoints.last_good()
        assert line.startswith(f"the checkpoint of step 3 is damaged ({name} ")
        assert line.endswith(f") and now in {three}/damaged_checkpoints/3; going on from step 2")
        assert step == checkpoints.latest_step() == 2
        assert checkpoints.read_record() == RECORD | {"step": 2}
        assert_same_bits(checkpoints.restore(one_array(size=2)), one_array(size=2))
        checkpoints.save(3, one_array(size=4), RECORD)
    assert steps_in(three) == [1, 2, 3]
    assert_same_bits(load_parameters(three)[0], one_array(size=4)[PARAMETERS])


def test_a_partly_copied_checkpoint_is_moved_away(three):
    with Checkpoints(three) as checkpoints:
        whole = {path.name for path in (three / "checkpoints/3").iterdir()}
        (three / "checkpoints/3" / SEAL).unlink()
        damage(three, 2, "state/d/*", os.remove)
        step, lines = checkpoints.last_good()
    assert step == 1
    assert [line.split(" (")[0] for line in lines] == [
        "the checkpoint of step 3 is damaged",
        "the checkpoint of step 2 is damaged",
    ]
    aside = three / "damaged_checkpoints"
    assert {path.name for path in (aside / "3").iterdir()} == whole - {SEAL}
    assert sorted(path.name for path in aside.iterdir()) == ["2", "3"]


def test_a_checkpoint_that_was_moved_away_is_not_overwritten(three):
    for expected in ("3", "3-2"):
        damage(three, 3, "record.json", flip)
        with Checkpoints(three) as checkpoints:
            _, (line,) = checkpoints.last_good()
            assert f"damaged_checkpoints/{expected};" in line
            checkpoints.save(3, one_array(), RECORD)


def test_if_every_checkpoint_is_damaged_nothing_is_moved(three):
    for step in (1, 2, 3):
        damage(three, step, "record.json", flip)
    before = tree(three)
    message = r"checkpoints: every checkpoint is damaged \(step 3: record.json .*; step 1: record.json .*\); "
    with Checkpoints(three) as checkpoints, pytest.raises(ValueError, match=message) as refused:
        checkpoints.last_good()
    assert len(str(refused.value).splitlines()) == 1
    assert tree(three) == before


def test_a_new_run_has_no_checkpoint(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.last_good() == (None, [])
        assert checkpoints.latest_step() is None
