"""A run whose sets are in a bucket is the run of the same sets on a disk."""

import pytest

from tests.support import shrunk_recipe
from tests.support.bucket_server import Faults, served
from tests.support.bucket_sets import upload
from tests.support.processes import HANG
from tests.support.real_runs import lines_without_times
from tests.support.several_hosts import environment, start

pytestmark = pytest.mark.slow

DATA, HELD_OUT = "gs://ours/prepared/dev", "gs://ours/prepared/test"


@pytest.fixture
def server(tmp_path):
    with served(Faults(unavailable=0.05, cut=0.05)) as server:
        upload(server, shrunk_recipe.write_clips(tmp_path / "dev"), DATA)
        upload(server, shrunk_recipe.write_clips(tmp_path / "test", 4), HELD_OUT)
        yield server


def size_of(directory):
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def test_metrics_are_those_of_a_run_from_a_disk(server, tmp_path, compiled):
    def run(name, data, held_out, **changes):
        changes |= {"data.shuffle_window": 2, "evaluation.clips": 4, "evaluation.sets": (str(held_out),)}
        words = shrunk_recipe.arguments(data, tmp_path / name, **changes)
        process = start(words, environment(compiled, 1, **server.environment))
        out, err = process.communicate(timeout=HANG)
        assert process.returncode == 0, err
        return out

    run("plain", tmp_path / "dev", tmp_path / "test")
    # Of five pairs of shards four, two windows, and the held-out set.
    limit = int(0.85 * size_of(tmp_path / "dev") + size_of(tmp_path / "test"))
    cache = {"data.cache": str(tmp_path / "cache"), "data.cache_gb": limit / 1e9, "data.workers": 2}
    run("staged", DATA, HELD_OUT, **cache)
    assert lines_without_times(tmp_path / "staged") == lines_without_times(tmp_path / "plain")
    assert 0.5 * limit < size_of(tmp_path / "cache") <= limit
    assert min(server.met["503"], server.met["cut"]) > 0
    # The set has moved, and the batches are the same: the run may go on.
    run("staged", tmp_path / "dev", tmp_path / "test", steps=8)
    assert [line["step"] for line in lines_without_times(tmp_path / "staged")][-1] == 8
