"""The same for runs of two hosts, in a file of its own, so that another process runs these trials."""

import pytest

from tests.chaos import host_faults
from tests.chaos.table import TESTED_ELSEWHERE

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", [name for name in host_faults.FAULTS if name not in TESTED_ELSEWHERE])
def test_a_disturbed_run_of_two_hosts_ends_as_expected(disturb, name):
    disturb(name)
