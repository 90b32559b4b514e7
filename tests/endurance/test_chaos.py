"""A disturbed run ends as an undisturbed one, or with one line that says why not; see `tests.chaos`."""

import pytest

from tests.chaos import host_faults
from tests.chaos.table import FAULTS, TESTED_ELSEWHERE

pytestmark = pytest.mark.slow

ONE_HOST = [name for name in FAULTS if name not in TESTED_ELSEWHERE and name not in host_faults.FAULTS]


@pytest.mark.parametrize("name", ONE_HOST)
def test_a_disturbed_run_ends_as_expected(disturb, name):
    disturb(name)
