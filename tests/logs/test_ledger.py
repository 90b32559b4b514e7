"""The account of a run's time."""

import json

import pytest

from hicmae_jax.logs import ledger
from hicmae_jax.logs.ledger import Ledger
from tests.support.fake_clock import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


def test_the_time_of_each_kind_is_counted_and_all_add_up(clock):
    account = Ledger(clock, before=5.0)
    clock.go(20)
    for kind, seconds in (("training", 3), ("input", 1), ("training", 4), ("saving", 0.5)):
        account.change(kind)
        clock.go(seconds)
    assert account.spent() == {"starting": 25, "training": 7, "input": 1, "saving": 0.5, "evaluating": 0}


def test_the_kind_under_way_counts_until_now_and_is_not_counted_twice(clock):
    account = Ledger(clock)
    account.change("evaluating")
    clock.go(2)
    assert account.spent()["evaluating"] == 2
    account.change("evaluating")
    clock.go(1)
    assert account.spent()["evaluating"] == account.spent()["evaluating"] == 3


def test_an_account_is_read_as_it_was_written(clock):
    account = Ledger(clock, before=1.5).spent()
    assert ledger.read(json.loads(json.dumps(account))) == account
    line = {"step": 3, "loss/total": 1.0, **ledger.in_metrics(account)}
    assert line["time/spent/starting"] == 1.5
    assert ledger.of_line(line) == account


@pytest.mark.parametrize("found", [None, [], "x", {}, {"starting": 1.0}, dict.fromkeys(ledger.KINDS, "x")])
def test_what_is_no_account_is_none(found):
    assert ledger.read(found) is None
    assert ledger.of_line({"step": 3}) is None
