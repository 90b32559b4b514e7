"""Where chaos trials run: one place for each file of tests, so that two processes can share the trials."""

import random
from collections.abc import Callable

import pytest

from tests.chaos.table import FAULTS, as_text
from tests.chaos.trials import Stage, attempt

SEED = 0


@pytest.fixture(scope="module")
def stage(tmp_path_factory, compiled):
    return Stage(tmp_path_factory.mktemp("chaos"), SEED, pauses=True, compiled=compiled)


@pytest.fixture
def disturb(stage) -> Callable[[str], None]:
    """Tries a fault by its name; the test fails if the run does not end as expected."""

    def tried(name: str) -> None:
        trial = attempt(name, FAULTS[name], stage, random.Random(f"{SEED} {name}"))
        report = "\n".join([as_text([trial]), *trial.missed])
        print(report)
        assert not trial.missed, report
        if trial.untried:
            pytest.skip(trial.untried)

    return tried
