import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures.process import BrokenProcessPool

import pytest

from data_pipeline.common.worker_processes import submit_all, worker_pool
from tests.support.processes import wait_until


@pytest.fixture(autouse=True)
def interruptible():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have left it ignored
    yield
    signal.signal(signal.SIGINT, before)


def signal_itself(kind: signal.Signals) -> int:
    os.kill(os.getpid(), kind)
    time.sleep(0.1)
    return os.getpid()


def test_workers_are_deaf_to_ctrl_c_and_to_the_sigterm_of_others():
    with worker_pool(1) as pool:
        kinds = [signal.SIGINT, signal.SIGTERM] * 2
        assert len({future.result() for future in submit_all(pool, signal_itself, kinds)}) == 1


def test_the_death_of_one_ends_the_others():
    with worker_pool(2) as pool:
        futures = submit_all(pool, time.sleep, [600, 600])
        wait_until(lambda: all(future.running() for future in futures))
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
        with pytest.raises(BrokenProcessPool):
            futures[0].result()
    assert not multiprocessing.active_children()


def test_ctrl_c_waits_until_all_work_is_handed_over():
    handed = []

    def items():
        for number in range(3):
            signal.raise_signal(signal.SIGINT)
            handed.append(number)
            yield number

    with worker_pool(1) as pool, pytest.raises(KeyboardInterrupt):
        submit_all(pool, abs, items())
    assert handed == [0, 1, 2]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()


def test_sigterm_waits_until_all_work_is_handed_over():
    came, handed = [], []
    before = signal.signal(signal.SIGTERM, lambda *_: came.append(list(handed)))

    def items():
        for number in range(2):
            signal.raise_signal(signal.SIGTERM)
            handed.append(number)
            yield number

    try:
        with worker_pool(1) as pool:
            submit_all(pool, abs, items())
    finally:
        signal.signal(signal.SIGTERM, before)
    assert came == [[0, 1]]


def test_a_pool_serves_other_threads_too():
    results = []
    with worker_pool(1) as pool:
        thread = threading.Thread(
            target=lambda: results.extend(future.result() for future in submit_all(pool, abs, [-1]))
        )
        thread.start()
        thread.join()
    assert results == [1]
