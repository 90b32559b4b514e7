"""Checkpoints in a bucket keep the promises of those on a disk: whole or not at all, never lost."""

import json
import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest
from etils import epath

from data_pipeline.common.buckets import Bucket
from hicmae_jax.checkpoints import bucket_store, listing
from hicmae_jax.checkpoints.best import BestBy
from hicmae_jax.checkpoints.checksums import SEAL
from hicmae_jax.checkpoints.load import find_step, load_parameters
from hicmae_jax.checkpoints.manager import Checkpoints
from tests.support.bucket_server import Faults
from tests.support.checkpoint_fixtures import RECORD, assert_same_bits, one_array

RUN = "gs://shop/runs/b"


def state(step):
    return {**one_array(), "step": jax.numpy.int32(step)}


def save(*steps, run=RUN, **choices):
    with Checkpoints(run, **choices) as checkpoints:
        for step in steps:
            checkpoints.save(step, state(step), RECORD)


def steps(bucket, directory="checkpoints"):
    """The steps under whose names any objects lie."""
    return sorted({int(name.split("/")[0]) for name in bucket.under(f"{RUN}/{directory}") if "/" in name})


def test_a_state_comes_back_bit_for_bit_on_other_devices(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    save(3, 7)
    with Checkpoints(RUN) as checkpoints:
        assert checkpoints.last_good() == (7, [])
        assert checkpoints.read_record() == RECORD
        spread = jax.NamedSharding(jax.make_mesh((8,), ("x",)), jax.P("x"))
        wanted = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state(7))
        wanted["params"]["kernel"] = jax.ShapeDtypeStruct((1000,), np.float32, sharding=spread)
        assert_same_bits(checkpoints.restore(wanted), state(7))
    assert list(tmp_path.iterdir()) == []  # nothing stays on the disk


def test_the_last_the_milestones_and_the_best_are_kept(bucket):
    with Checkpoints(RUN, keep=2, milestone=10, best=BestBy("held_out/total", "min")) as checkpoints:
        for step, score in ((5, 0.5), (10, 3.0), (15, 1.0), (20, 2.0), (25, 2.5), (30, 2.2)):
            checkpoints.save(step, state(step), RECORD, {"held_out/total": score})
    assert steps(bucket) == [5, 10, 20, 25, 30]
    assert json.loads(bucket.under(f"{RUN}/checkpoints")["steps.json"]) == [5, 10, 20, 25, 30]
    params, record = load_parameters(RUN, "best")
    assert record["score"]["value"] == 0.5
    assert_same_bits(params, one_array()["params"])
    assert find_step(f"{RUN}/checkpoints") == 30


def test_a_save_that_is_not_sealed_is_no_checkpoint_and_is_cleared_away(bucket):
    save(1)

    def refuse():
        raise OSError("the lease is lost")

    line = "the checkpoint of step 2 was not saved: OSError: the lease is lost; .* go on from step 1"
    with pytest.raises(RuntimeError, match=line):
        save(2, before_publish=refuse)
    assert steps(bucket) == [1, 2]
    assert find_step(RUN) == 1  # while it may still go on
    with Checkpoints(RUN) as checkpoints:
        assert checkpoints.last_good() == (1, [])
        assert steps(bucket) == [1]
        checkpoints.save(2, state(2), RECORD)
    assert find_step(RUN) == 2


def test_a_removal_that_was_interrupted_is_completed(bucket, monkeypatch):
    save(1, 2)
    store = bucket_store.BucketStore(*_places(), lambda: None)
    with monkeypatch.context() as patch:
        patch.setattr(store, "_write_index", lambda steps: (_ for _ in ()).throw(OSError("killed")))
        with pytest.raises(OSError, match="killed"):
            store.remove(1)
    store.close()
    assert steps(bucket) == [1, 2]
    with Checkpoints(RUN) as checkpoints:
        assert checkpoints.last_good() == (2, [])
    assert steps(bucket) == [2]


def _places():
    return epath.Path(RUN) / "checkpoints", epath.Path(RUN) / "damaged_checkpoints"


DAMAGES = {
    "flipped": lambda server, path: server.put(path, b"\0" + server.objects[path].data[1:]),
    "cut": lambda server, path: server.put(path, server.objects[path].data[:-9]),
    "removed": lambda server, path: server.remove(path),
}


@pytest.mark.parametrize("how", list(DAMAGES))
@pytest.mark.parametrize("name", [SEAL, "record.json", "state/manifest.ocdbt", "state/_METADATA"])
def test_a_damaged_checkpoint_is_moved_aside_and_never_deleted(bucket, how, name):
    save(1, 2)
    path = f"shop/runs/b/checkpoints/2/{name}"
    DAMAGES[how](bucket, path)
    before = bucket.under(f"{RUN}/checkpoints/2")
    with Checkpoints(RUN) as checkpoints:
        step, lines = checkpoints.last_good()
    assert step == 1
    assert len(lines) == 1
    assert name in lines[0]
    assert lines[0].endswith(f"now in {RUN}/damaged_checkpoints/2; going on from step 1")
    assert bucket.under(f"{RUN}/damaged_checkpoints/2") == before
    assert steps(bucket) == [1]


def test_damaged_checkpoints_of_one_step_get_names_of_their_own(bucket):
    for _ in range(2):
        save(1)
        save(2)
        bucket.remove("shop/runs/b/checkpoints/2/record.json")
        with Checkpoints(RUN) as checkpoints:
            checkpoints.last_good()
        for name in bucket.under(f"{RUN}/checkpoints"):
            bucket.remove(f"shop/runs/b/checkpoints/{name}")
    kept = {name.split("/")[0] for name in bucket.under(f"{RUN}/damaged_checkpoints")}
    assert kept == {"2", "2-2"}


def test_if_all_are_damaged_nothing_is_moved(bucket):
    save(1, 2)
    for step in (1, 2):
        bucket.remove(f"shop/runs/b/checkpoints/{step}/record.json")
    before = bucket.under(RUN)
    with Checkpoints(RUN) as checkpoints, pytest.raises(ValueError, match="every checkpoint is damaged"):
        checkpoints.last_good()
    assert bucket.under(RUN) == before


def test_a_listing_that_is_old_hides_no_checkpoint_and_shows_no_removed_one(bucket):
    bucket.faults = Faults(stale=1e6)
    save(*range(1, 6), keep=2)
    assert bucket.met["stale"]
    assert listing.look(Bucket(f"{RUN}/checkpoints")).complete == [4, 5]
    with Checkpoints(RUN) as checkpoints:
        assert checkpoints.last_good() == (5, [])
        assert_same_bits(checkpoints.restore(state(0)), state(5))


def test_saves_succeed_while_requests_fail(bucket):
    bucket.faults = Faults(unavailable=0.02, cut=0.02, seed=1)
    save(1, 2, 3)
    assert sum(bucket.met.values())
    bucket.faults = Faults()
    with Checkpoints(RUN) as checkpoints:
        assert checkpoints.last_good() == (3, [])


@pytest.mark.parametrize("to_bucket", [True, False], ids=["disk to bucket", "bucket to disk"])
def test_checkpoints_can_be_copied_between_a_disk_and_a_bucket(bucket, tmp_path, to_bucket):
    here = tmp_path / "run"
    first, second = (here, RUN) if to_bucket else (RUN, here)
    save(1, 2, run=first)
    if to_bucket:
        files = {p.relative_to(here).as_posix(): p for p in here.rglob("*") if p.is_file()}
        Bucket(RUN).upload(files)
    else:
        for name, content in bucket.under(RUN).items():
            Path(here / name).parent.mkdir(parents=True, exist_ok=True)
            Path(here / name).write_bytes(content)
    with Checkpoints(second) as checkpoints:
        assert checkpoints.last_good() == (2, [])
        assert_same_bits(checkpoints.restore(state(0)), state(2))
        checkpoints.save(3, state(3), RECORD)
    assert find_step(second) == 3


def test_reading_a_run_leaves_it_as_it_is(bucket):
    save(1, 2)
    bucket.remove(f"shop/runs/b/checkpoints/2/{SEAL}")
    before = bucket.under(RUN)
    with pytest.raises(ValueError, match="step 2 is damaged"):
        load_parameters(RUN)
    assert bucket.under(RUN) == before


def test_a_directory_without_checkpoints_is_named(bucket):
    bucket.put("shop/runs/b/notes.txt", b"")
    with pytest.raises(FileNotFoundError, match=r"gs://shop/runs/b holds no complete checkpoint, only notes"):
        load_parameters(RUN)
