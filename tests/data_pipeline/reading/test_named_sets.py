"""Names of sets are short and differ, and every clip is counted for the set it comes from."""

import numpy as np
import pytest

from data_pipeline.format.clip_sampling import ClipSampling
from data_pipeline.reading.named_sets import NamedSets, set_names
from data_pipeline.reading.sources import ClipSource
from tests.support.set_fixtures import write_set


@pytest.mark.parametrize(
    ("roots", "names"),
    [
        (["/data/voxceleb2"], ["voxceleb2"]),
        (["/data/voxceleb2/", "mead"], ["voxceleb2", "mead"]),
        (["a/dev", "b/dev", "c/test"], ["a/dev", "b/dev", "test"]),
        (["x/a/dev", "y/a/dev", "b/dev"], ["x/a/dev", "y/a/dev", "b/dev"]),
        (["dev", "a/dev"], ["dev", "a/dev"]),
        (["/dev", "dev"], ["/dev", "dev"]),
        (["a/../dev", "./b"], ["dev", "b"]),
        (["dev", "./dev", "dev-2"], ["dev", "dev-3", "dev-2"]),
        ([".", ".."], [".", ".."]),
    ],
)
def test_names_are_the_last_parts_that_tell_directories_apart(roots, names):
    assert list(set_names(roots)) == names


def test_clips_are_counted_for_their_set(tmp_path):
    roots = [write_set(tmp_path / "a" / "dev", [64] * 5), write_set(tmp_path / "few", [64] * 2)]
    roots.append(write_set(tmp_path / "b" / "dev", [64] * 3))
    sets = ClipSource(roots, ClipSampling()).named_sets()
    assert sets == NamedSets(("a/dev", "few", "b/dev"), (0, 5, 7))
    assert sets.numbers(np.arange(10)).tolist() == [0] * 5 + [1] * 2 + [2] * 3
    assert sets.shares(np.array([4, 0, 7, 9, 9, 9, 8, 7])) == {"a/dev": 0.25, "few": 0, "b/dev": 0.75}
