"""Every fault ends in a run that goes on with nothing lost, or in one line; see `tests.chaos`."""

import random
import time

import pytest

from tests.chaos.table import FAULTS, as_text
from tests.chaos.trials import Stage, attempt

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def seed():
    return time.time_ns() % 10**6


@pytest.fixture(scope="module")
def stage(tmp_path_factory, seed):
    return Stage(tmp_path_factory.mktemp("chaos"), seed)


@pytest.mark.parametrize("name", FAULTS)
def test_a_run_survives(stage, seed, name):
    trial = attempt(name, FAULTS[name], stage, random.Random(seed))
    told = "\n".join([f"moments and places of seed {seed}", as_text([trial]), *trial.missed])
    print(told)
    assert not trial.missed, told
    if trial.untried:
        pytest.skip(trial.untried)
