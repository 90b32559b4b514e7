"""Where chaos trials run: one place for each file of tests, so that two processes can share the trials."""

import random
from collections.abc import Callable

import pytest

from tests.chaos import bucket_faults
from tests.chaos.table import FAULTS, as_text
from tests.chaos.trials import Fault, Stage, attempt
from tests.support.bucket_server import served

SEED = 0


@pytest.fixture(scope="module")
def stage(tmp_path_factory, compiled):
    return Stage(tmp_path_factory.mktemp("chaos"), SEED, pauses=True, compiled=compiled)


@pytest.fixture(scope="module")
def bucket_stage(tmp_path_factory, compiled):
    """A stage whose runs lie in a bucket."""
    with served() as server:
        root = tmp_path_factory.mktemp("chaos")
        yield Stage(root, SEED, pauses=True, compiled=compiled, bucket=server)


@pytest.fixture
def disturb(stage) -> Callable[[str], None]:
    """Tries a fault by its name; the test fails if the run does not end as expected."""

    def tried(name: str) -> None:
        try_one(name, FAULTS[name], stage)

    return tried


@pytest.fixture
def disturb_in_bucket(bucket_stage) -> Callable[[str], None]:
    """The same for runs in a bucket."""

    def tried(name: str) -> None:
        try_one(name, {**FAULTS, **bucket_faults.FAULTS}[name], bucket_stage)

    return tried


def try_one(name: str, fault: Fault, stage: Stage) -> None:
    trial = attempt(name, fault, stage, random.Random(f"{SEED} {name}"))
    report = "\n".join([as_text([trial]), *trial.missed])
    print(report)
    assert not trial.missed, report
    if trial.untried:
        pytest.skip(trial.untried)
