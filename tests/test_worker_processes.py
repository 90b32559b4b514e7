import os
import signal
import threading

import pytest

from data_pipeline.worker_processes import submit_all, worker_pool


@pytest.fixture(autouse=True)
def interruptible():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have left it ignored
    yield
    signal.signal(signal.SIGINT, before)


def interrupt_itself(number: int) -> int:
    os.kill(os.getpid(), signal.SIGINT)
    return number


def test_workers_are_deaf_to_ctrl_c():
    with worker_pool(2) as pool:
        assert sorted(future.result() for future in submit_all(pool, interrupt_itself, range(4))) == [
            0,
            1,
            2,
            3,
        ]


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


def test_a_pool_serves_other_threads_too():
    results = []
    with worker_pool(1) as pool:
        thread = threading.Thread(
            target=lambda: results.extend(future.result() for future in submit_all(pool, abs, [-1]))
        )
        thread.start()
        thread.join()
    assert results == [1]
