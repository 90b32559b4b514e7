"""Rates, and shares of time spent waiting."""

import types

import jax
import pytest

from hicmae_jax.runs import clock as clocks
from hicmae_jax.runs.clock import Clock, Work

WORK = Work(clips=4, flops=1e9)


@pytest.fixture
def now(monkeypatch):
    """A clock that the test sets."""
    now = types.SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(clocks, "time", types.SimpleNamespace(perf_counter=lambda: now.seconds))
    return now


def test_rates_leave_out_compilation_and_pauses(now):
    clock = Clock(WORK)
    now.seconds = 100.0  # compilation
    assert clock.lap(10) == {}
    with clock.waiting("input"):
        now.seconds += 2
    now.seconds += 5
    with clock.waiting("device"):
        now.seconds += 1
    with clock.paused():
        now.seconds += 1_000
    assert clock.lap(14) == {
        "time/step_seconds": 2.0,
        "time/clips_per_second": 2.0,
        "time/model_flops_per_second": 2e9,
        "time/input_wait_share": 0.25,
        "time/device_wait_share": 0.125,
    }
    now.seconds += 3
    again = clock.lap(15)
    assert again["time/step_seconds"] == 3.0
    assert again["time/input_wait_share"] == 0


def test_mfu_is_logged_if_the_peak_of_the_device_is_known(now, monkeypatch):
    monkeypatch.setattr(clocks, "peak_flops", lambda device: 1e9)
    clock = Clock(WORK)
    clock.lap(1)
    now.seconds += 1
    assert clock.lap(2)["time/mfu"] == 4e9 / (1e9 * jax.device_count())
