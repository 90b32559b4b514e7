import contextlib
import fcntl
import itertools
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import types
from pathlib import Path

import grain
import numpy as np
import pytest

from data_pipeline.reading import worker_batches
from data_pipeline.reading.pipeline import Pipeline, PipelineConfig
from data_pipeline.reading.worker_batches import WorkerBatches
from tests.support import processes
from tests.support.processes import is_alive, wait_until
from tests.support.set_fixtures import write_set


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return str(write_set(tmp_path_factory.mktemp("set"), [64 + clip for clip in range(20)]))


@pytest.fixture
def names(monkeypatch):
    """Prefix of the names of this test's shared memory."""
    numbers = itertools.count()
    mine = f"{os.getpid() % 2**16:04x}"
    monkeypatch.setattr(
        worker_batches, "secrets", types.SimpleNamespace(token_hex=lambda _: f"{mine}{next(numbers):02x}")
    )
    return f"hb{mine}"


@pytest.fixture(autouse=True)
def own_temporary_files(tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))


def config(root, workers: int) -> PipelineConfig:
    return PipelineConfig(data=(root,), batch=8, seed=3, threads=2, workers=workers)


def workers() -> list[int]:
    # Not `multiprocessing.active_children()`, which fails in a thread while another one starts a process.
    return sorted(processes.workers(os.getpid()))


def in_shared_memory(names: str) -> list[Path]:
    return list(Path("/dev/shm").glob(f"{names}*"))


def lifelines() -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob("hicmae-data-workers-*"))


def grain_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "grain" in thread.name]


def warnings(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


# --- Workers that die ---------------------------------------------------------------------------------------


def test_killed_workers_are_started_again_and_no_batch_is_lost(root, names, caplog):
    with Pipeline(config(root, 0)).batches(5) as stream:
        undisturbed = [next(stream) for _ in range(40)]
    most = worker_batches.shared_batches(2) * len(undisturbed[0])
    with caplog.at_level(logging.WARNING), Pipeline(config(root, 2)).batches(5) as stream:
        for number, expected in enumerate(undisturbed):
            batch = next(stream)
            for name, array in expected.items():
                np.testing.assert_array_equal(batch[name], array, err_msg=f"{number} {name}")
            if number in (0, 12, 24):
                for pid in workers()[: 2 if number == 24 else 1]:
                    os.kill(pid, signal.SIGKILL)
            assert len(workers()) <= 2
            assert len(in_shared_memory(names)) <= most
        assert stream.restarts == 3
        assert stream.step == 5 + 40
        del batch
    lines = warnings(caplog)
    assert len(lines) == 3
    for line in lines:
        assert line.startswith("Step ")
        assert line.endswith(
            "starting data workers again: one was killed by SIGKILL, perhaps because memory ran out"
        )
    # The memory of the dead workers is freed, too. A thread of Grain frees what this process has read.
    assert not workers()
    assert not lifelines()
    wait_until(lambda: not in_shared_memory(names) and not grain_threads())


class Dying:
    """Batches whose reader dies before it has read one."""

    def __init__(self, death):
        self._death = death

    def __len__(self):
        return 2**30

    def __getitem__(self, _):
        self._death()


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def out_of_shared_memory():
    os.kill(os.getpid(), signal.SIGBUS)


def leaves():
    os._exit(3)


def raises():
    raise MemoryError("no room for a batch")


@pytest.mark.parametrize(
    ("death", "reason"),
    [
        (killed, "one was killed by SIGKILL, perhaps because memory ran out"),
        (out_of_shared_memory, "one was killed by SIGBUS, perhaps because /dev/shm is full"),
        (leaves, "one ended with exit code 3"),
        (raises, "MemoryError: no room for a batch"),
    ],
)
def test_workers_that_die_repeatedly_stop_the_run_with_one_line(monkeypatch, names, death, reason):
    monkeypatch.setattr(worker_batches, "_MOST_FAILURES", 1)
    ahead = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
    batches = WorkerBatches(
        lambda step: grain.MapDataset.source(Dying(death))[step:].to_iter_dataset(ahead), 1, 2
    )
    with contextlib.closing(batches), pytest.raises(RuntimeError) as stopped:
        next(batches)
    assert str(stopped.value) == (
        f"step 2: data workers died 2 times in a row ({reason}); use fewer data.workers, or none, with "
        "data.threads instead"
    )
    assert batches.restarts == 1
    assert not workers()


# --- Signals that are not for workers -----------------------------------------------------------------------


def test_workers_ignore_ctrl_c_and_sigterm_from_their_start(root):
    def disturb():
        wait_until(workers)
        for pid in workers():
            for number in (signal.SIGINT, signal.SIGTERM):
                os.kill(pid, number)

    with Pipeline(config(root, 2)).batches() as stream:
        thread = threading.Thread(target=disturb)
        thread.start()
        next(stream)
        thread.join()
        disturb()
        for _ in range(8):
            next(stream)
        assert stream.restarts == 0
    assert not workers()


class SlowToSend(Dying):
    """Batches that take a second to reach a worker: Grain has not started it yet."""

    def __getstate__(self):
        time.sleep(1)
        return self.__dict__


@pytest.mark.parametrize(("source", "begun"), [(Dying, 2), (Dying, 1), (SlowToSend, 0)])
def test_ctrl_c_ends_the_wait_for_a_batch_and_hanging_or_starting_workers(tmp_path, names, source, begun):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    pipe = tmp_path / "never"
    os.mkfifo(pipe)
    ahead = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
    batches = WorkerBatches(
        lambda step: grain.MapDataset.source(source(pipe.read_bytes))[step:].to_iter_dataset(ahead), 2, 2
    )

    def interrupt():
        wait_until(lambda: grain_threads() and len(workers()) >= begun)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            next(batches)
    finally:
        signal.signal(signal.SIGINT, before)
        thread.join()
        batches.close()
    # Grain's threads start the workers. One that is about to start a worker does so, and the worker ends.
    wait_until(lambda: not grain_threads() and not workers())
    assert not lifelines()
    assert not in_shared_memory(names)


READ = """
import sys
from data_pipeline.reading.worker_batches import _WorkerStart
_WorkerStart("hb", sys.argv[1])(0, 1)
print("reads")
"""


@pytest.mark.parametrize("stream", ["open", "closed", "killed"])
def test_a_worker_of_a_closed_stream_ends_before_it_reads(tmp_path, stream):
    lifeline = tmp_path / "lifeline"
    with lifeline.open("wb") as file:
        if stream == "open":
            fcntl.flock(file, fcntl.LOCK_EX)
        elif stream == "closed":
            lifeline.unlink()
        done = subprocess.run([sys.executable, "-c", READ, lifeline], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == ((0, "reads\n") if stream == "open" else (1, "")), done.stderr
    assert lifeline.exists() == (stream == "open")


READ_AND_WAIT = """
import multiprocessing, sys, time
from data_pipeline.reading.pipeline import Pipeline, PipelineConfig

if __name__ == "__main__":
    config = PipelineConfig(data=(sys.argv[1],), batch=8, threads=1, workers=2)
    with Pipeline(config).batches() as stream:
        next(stream)
        print(*(child.pid for child in multiprocessing.active_children()), flush=True)
        time.sleep(600)
"""


def test_workers_do_not_outlive_a_killed_run(root, tmp_path):
    script = tmp_path / "read_and_wait.py"
    script.write_text(READ_AND_WAIT)
    run = subprocess.Popen(
        [sys.executable, str(script), root],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )
    with run:
        pids = [int(word) for word in run.stdout.readline().split()]
        assert len(pids) == 2
        assert all(map(is_alive, pids))
        run.kill()
        wait_until(lambda: not any(map(is_alive, pids)))
    assert not lifelines()
