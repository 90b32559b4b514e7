"""A disturbed run in a bucket ends as an undisturbed one on a disk; see `tests.chaos`."""

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "name",
    [
        "begun on a disk and continued in a bucket",
        "bucket answers 503 to three requests of a hundred",
        "SIGTERM to the second of two hosts",
    ],
)
def test_a_disturbed_run_in_a_bucket_ends_as_expected(disturb_in_bucket, name):
    disturb_in_bucket(name)
