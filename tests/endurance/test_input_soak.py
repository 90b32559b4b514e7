"""Reading clips for hours fills neither memory, nor shared memory, nor the table of open files."""

import contextlib
import os

import pytest

from data_pipeline.reading.pipeline import Pipeline, PipelineConfig
from data_pipeline.reading.worker_batches import shared_batches
from tests.support.memory import growth, resident_bytes
from tests.support.processes import wait_until
from tests.support.set_fixtures import write_set
from tests.support.shard_damage import flip_bytes, shard, truncate

BATCHES = 2_000
EVERY = 50


def shared_batches_now(frames_bytes: int) -> int:
    """The number of batches in shared memory: segments of a size that no other test has."""
    sizes = []
    for file in os.scandir("/dev/shm"):
        with contextlib.suppress(FileNotFoundError):
            sizes.append(file.stat().st_size)
    return sizes.count(frames_bytes)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_memory_stays_flat_over_thousands_of_batches(tmp_path, workers):
    size = 20 + os.getpid() % 29
    root = write_set(tmp_path / "set", [64 + clip for clip in range(24)], size=size)
    flip_bytes(shard(root, "video", 0), 0.3, 0.35)
    truncate(shard(root, "audio", 2))
    pipeline = Pipeline(PipelineConfig(data=(str(root),), batch=7, threads=2, workers=workers))
    frames_bytes = 7 * 16 * size * size * 3
    resident, shared, descriptors = [], [], []
    with pipeline.batches() as stream:
        for number in range(BATCHES):
            batch = next(stream)
            assert batch["samples"].min() > 1_024
            if number % EVERY == 0:
                resident.append(resident_bytes())
                shared.append(shared_batches_now(frames_bytes))
                descriptors.append(len(os.listdir("/proc/self/fd")))
        assert stream.step == BATCHES
        assert stream.replaced > BATCHES
        assert len(stream.broken) < 12
        del batch
    assert max(shared) <= shared_batches(workers)
    assert growth(shared) <= 3
    assert growth(descriptors) < 20
    # Less than 4 kB a batch: one leaked batch in a hundred would show.
    assert growth(resident) < 4_096 * BATCHES / 2, f"{resident[0] / 1e6:.0f} to {resident[-1] / 1e6:.0f} MB"
    wait_until(lambda: not shared_batches_now(frames_bytes))  # Grain removes them in a thread of its own
