"""Signals to a process: the first one stops it in good order, the second one at once."""

import signal
import subprocess
import sys
import textwrap

import pytest

from hicmae_jax.supervision.signals import Stopped, StopSignals
from tests.support.processes import HANG, wait_until

SIGNALS = [signal.SIGINT, signal.SIGTERM]

# The beginning of every program below.
BEGIN = """
    import ctypes, gc, os, signal, sys, threading, time
    from hicmae_jax.supervision import signals
    from hicmae_jax.supervision.signals import SIGNALS, StopSignals, Stopped

    # A shell starts background jobs with the interrupt ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def ready():
        print("ready", flush=True)

    libc = ctypes.CDLL(None)
"""
SAVES = """
    with StopSignals() as stop_signals:
        stop_signals.defer()
        ready()
        while not stop_signals.requested:
            time.sleep(0.01)
        sys.stdin.read()  # while it saves, another thread says so
        print("saved for", stop_signals.requested)
"""
NOTHING_TO_SAVE = """
    try:
        with StopSignals():
            ready()
            time.sleep(600)
    except Stopped as stopped:
        print(stopped)
        sys.exit(signals.EXIT_CODES[stopped.signal])
"""
STUCK = """
    signals.GRACE_SECONDS = 0.5
    with StopSignals():
        # Another thread takes them, and this one sleeps on.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        threading.Timer(0.3, ready).start()  # when this one is in there
        libc.sleep(600)
"""
STUCK_DEFERRED = """
    with StopSignals() as stop_signals:
        stop_signals.defer()
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        threading.Timer(0.3, ready).start()
        libc.sleep(600)
"""
IN_A_COLLECTION = """
    def collected(phase, info):
        if phase == "start":
            ready()
            time.sleep(600)

    with StopSignals() as stop_signals:
        gc.callbacks.append(collected)
        gc.collect()  # which drops what its callbacks raise
        gc.callbacks.clear()
        try:
            stop_signals.defer()
            print("never reached")
        except Stopped as stopped:
            print("seen later:", stopped.signal.name)
"""


@pytest.fixture
def start():
    processes = []

    def started(program):
        command = [sys.executable, "-c", textwrap.dedent(BEGIN + program)]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        processes.append(process)
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        return process

    yield started
    for process in processes:
        with process:
            process.kill()


@pytest.mark.parametrize("kind", SIGNALS)
def test_a_signal_asks_a_training_run_to_stop(start, kind):
    process = start(SAVES)
    process.send_signal(kind)
    said = process.stderr.readline() + process.stderr.readline()
    out, err = process.communicate(timeout=HANG)
    assert (process.returncode, out, err) == (0, f"saved for {int(kind)}\n", "")
    assert said.strip() == "stopping: the step being made is saved first; a second signal leaves at once"


@pytest.mark.parametrize(("kind", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_signal_ends_a_run_with_nothing_to_save(start, kind, code):
    process = start(NOTHING_TO_SAVE)
    process.send_signal(kind)
    out, _ = process.communicate(timeout=HANG)
    by = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}[kind]
    assert out == f"stopped by {by} with nothing new to save; run the same command again to go on\n"
    assert process.returncode == code


@pytest.mark.parametrize("kind", SIGNALS)
def test_a_run_with_nothing_to_save_is_killed_if_it_does_not_end(start, kind):
    process = start(STUCK)
    process.send_signal(kind)
    _, err = process.communicate(timeout=HANG)
    assert process.returncode == 128 + kind
    assert err.strip() == "not ended 0 s after a signal: ended by force; there was nothing to save"


@pytest.mark.parametrize("kinds", [(one, other) for one in SIGNALS for other in SIGNALS])
def test_a_second_signal_ends_a_run_even_in_compiled_code(start, kinds):
    process = start(STUCK_DEFERRED)
    said = []
    for kind in kinds:
        process.send_signal(kind)
        if not said:  # two equal signals at the same time count as one
            process.stderr.readline()
            said.append(process.stderr.readline())
    _, err = process.communicate(timeout=HANG)
    assert process.returncode == 128 + kinds[1]
    assert err.strip() == "a second signal: left at once, nothing saved since the last checkpoint"


def test_a_second_signal_ends_a_run_whose_stderr_is_closed(start):
    process = start(STUCK_DEFERRED)
    process.stderr.close()

    def ends():
        process.send_signal(signal.SIGTERM)  # equal signals at the same time count as one
        return process.poll() is not None

    wait_until(ends)
    assert process.returncode == 128 + signal.SIGTERM


def test_a_signal_during_garbage_collection_is_not_lost(start):
    process = start(IN_A_COLLECTION)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=HANG)
    assert out == "seen later: SIGTERM\n"


def test_the_previous_handlers_are_restored():
    before = [signal.getsignal(kind) for kind in SIGNALS]
    with StopSignals():
        assert [signal.getsignal(kind) for kind in SIGNALS] != before
    assert [signal.getsignal(kind) for kind in SIGNALS] == before
    assert signal.set_wakeup_fd(-1) == -1


def test_the_message_of_a_stop_says_what_was_saved():
    assert str(Stopped(signal.SIGTERM, 1234)) == (
        "stopped by SIGTERM with step 1,234 saved; run the same command again to go on"
    )


def test_only_the_first_signal_counts(monkeypatch):
    left = []
    monkeypatch.setattr("hicmae_jax.supervision.signals.os._exit", left.append)
    with StopSignals() as stop_signals:
        stop_signals.defer()
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert stop_signals.requested == signal.SIGTERM
        wait_until(lambda: left)
    assert left == [128 + signal.SIGINT]
