"""A disturbed run ends as an undisturbed one, or with one line that says why not; see `tests.chaos`."""

import random

import pytest

from tests.chaos.table import FAULTS, TESTED_ELSEWHERE, as_text
from tests.chaos.trials import Stage, attempt

pytestmark = pytest.mark.slow

SEED = 0


@pytest.fixture(scope="module")
def stage(tmp_path_factory, compiled):
    return Stage(tmp_path_factory.mktemp("chaos"), SEED, pauses=True, compiled=compiled)


@pytest.mark.parametrize("name", [name for name in FAULTS if name not in TESTED_ELSEWHERE])
def test_a_disturbed_run_ends_as_expected(stage, name):
    trial = attempt(name, FAULTS[name], stage, random.Random(f"{SEED} {name}"))
    report = "\n".join([as_text([trial]), *trial.missed])
    print(report)
    assert not trial.missed, report
    if trial.untried:
        pytest.skip(trial.untried)
