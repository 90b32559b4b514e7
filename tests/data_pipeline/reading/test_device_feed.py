import dataclasses
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from data_pipeline.reading.device_feed import sharding_rows, to_device
from data_pipeline.reading.pipeline import Pipeline, PipelineConfig
from tests.support.processes import HANG
from tests.support.set_fixtures import write_set
from tests.support.several_hosts import free_port
from tests.support.xla_flags import xla_flags


def sharding(devices=None, axes=(4, 2)) -> jax.sharding.NamedSharding:
    devices = np.array(jax.devices() if devices is None else devices).reshape(axes)
    return jax.NamedSharding(jax.sharding.Mesh(devices, ("data", "fsdp")), jax.P(("data", "fsdp")))


def batches(count: int, rows: int = 16):
    for step in range(count):
        yield {"frames": np.full((rows, 2, 3), step, np.uint8), "example": np.arange(rows, dtype=np.int32)}


def test_a_sharding_names_its_rows():
    assert sharding_rows(sharding(), 16) == list(range(16))
    replicated = jax.NamedSharding(sharding().mesh, jax.P())
    assert sharding_rows(replicated, 4) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="a batch of 12 clips does not divide over the mesh"):
        sharding_rows(sharding(), 12)


def test_only_the_rows_of_this_process_are_named():
    # The devices of a process need not be neighbours in the mesh.
    class FirstAndLast:
        def addressable_devices_indices_map(self, shape):
            whole = sharding().devices_indices_map(shape)
            return {device: whole[device] for device in (jax.devices()[7], jax.devices()[0])}

    assert sharding_rows(FirstAndLast(), 16) == [0, 1, 14, 15]


def test_arrays_arrive_sharded_whole_and_in_order():
    arrived = list(to_device(batches(5), sharding(), 16))
    assert [int(batch["frames"].max()) for batch in arrived] == list(range(5))
    for batch in arrived:
        assert batch["frames"].sharding == sharding()
        assert batch["frames"].shape == (16, 2, 3)
        assert batch["frames"].addressable_shards[0].data.shape == (2, 2, 3)
        np.testing.assert_array_equal(batch["example"], np.arange(16))


def test_rows_are_on_the_devices_that_the_mesh_says():
    backwards = sharding(jax.devices()[::-1])
    (batch,) = to_device(batches(1), backwards, 16)
    first = next(shard for shard in batch["example"].addressable_shards if shard.device == jax.devices()[0])
    np.testing.assert_array_equal(first.data, [14, 15])


@pytest.mark.parametrize("ahead", [1, 2, 3])
def test_no_more_is_taken_than_asked_for(ahead):
    taken = []

    def source():
        for step, batch in enumerate(batches(10)):
            taken.append(step)
            yield batch

    feed = to_device(source(), sharding(), 16, ahead)
    for step in range(3):
        next(feed)
        assert len(taken) == step + ahead
    feed.close()


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_stay_intact_on_the_device(tmp_path, workers):
    # On the CPU, JAX may share the memory of a batch, which is used again or unlinked, instead of copying it.
    root = str(write_set(tmp_path, [64 + clip for clip in range(20)]))
    settings = PipelineConfig(data=(root,), batch=16, threads=1)
    with Pipeline(dataclasses.replace(settings, workers=workers)).batches() as stream:
        arrived = [batch for batch, _ in zip(to_device(stream, sharding(), 16), range(6))]
    with Pipeline(settings).batches() as stream:
        for batch in arrived:
            jax.tree.map(np.testing.assert_array_equal, batch, next(stream))


HOST = """
import sys
import jax
import numpy as np
from data_pipeline.reading.device_feed import sharding_rows, to_device
from data_pipeline.reading.pipeline import Pipeline, PipelineConfig

port, host, data = sys.argv[1:]
jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=int(host))
# Devices of the two processes alternate in the mesh: neither holds neighbouring rows.
devices = np.array(jax.devices()).reshape(2, 4).T.ravel()
sharding = jax.NamedSharding(jax.sharding.Mesh(devices, ("data",)), jax.P("data"))
pipeline = Pipeline(PipelineConfig(data=(data,), batch=16, threads=1), sharding_rows(sharding, 16))
assert len(pipeline.rows) == 8
with pipeline.batches(3) as stream:
    batch = next(to_device(stream, sharding, 16))
whole = jax.jit(lambda batch: batch, out_shardings=jax.NamedSharding(sharding.mesh, jax.P()))(batch)
if host == "0":
    np.savez("batch.npz", **whole)
jax.block_until_ready(whole)
"""


def test_two_processes_make_the_same_global_batch(tmp_path):
    root = write_set(tmp_path / "set", [64 + clip for clip in range(20)])
    port = str(free_port())
    environment = os.environ | {"XLA_FLAGS": xla_flags(4)}
    hosts = [
        subprocess.Popen(
            [sys.executable, "-c", HOST, port, str(host), str(root)], env=environment, cwd=tmp_path
        )
        for host in range(2)
    ]
    assert [host.wait(timeout=HANG) for host in hosts] == [0, 0]
    with Pipeline(PipelineConfig(data=(str(root),), batch=16, threads=1)).batches(3) as stream:
        expected = next(stream)
    whole = np.load(tmp_path / "batch.npz")
    assert set(whole) == set(expected)
    for name in expected:
        np.testing.assert_array_equal(whole[name], expected[name], err_msg=name)
