"""The benchmark of many clips runs, and its sets are real ones."""

import pytest

from benchmarks import many_clips
from data_pipeline.format.clip_sampling import ClipSampling
from data_pipeline.format.prepared_set import read_prepared_set
from data_pipeline.reading.requests import ClipRequest
from data_pipeline.reading.sources import ClipSource
from tests.support.benchmarks import figures_of
from tests.support.set_fixtures import write_set


def test_every_clip_of_a_linked_set_can_be_read(tmp_path):
    prepared = write_set(tmp_path / "prepared", [64, 70, 80, 90], clips_a_shard=2)
    files = many_clips.fill_shards(prepared, tmp_path, 6)
    many_clips.link_set(prepared, files, 6, 5, tmp_path / "set")
    about = read_prepared_set(tmp_path / "set")
    assert (about.n_clips, len(about.shards)) == (30, 5)
    source = ClipSource([tmp_path / "set"], ClipSampling())
    frames, audio = source.empty_sample()
    for example in range(30):
        assert source.read(ClipRequest(example, 0.5), frames, audio)[0] == example
        assert frames[0, 0, 0, 1] == pytest.approx(example % 6 % 4, abs=2)  # the clip, by its colour


@pytest.mark.slow
def test_the_benchmark_writes_its_figures(tmp_path):
    flags = ("--clips=500,1000", "--sets=3", "--order=2000")
    figures = figures_of("many_clips", tmp_path / "figures.json", *flags)
    more, order = figures.pop("more than one set"), ["order of 2000 clips"]
    assert list(figures) == ["500 clips", "1000 clips", "1 x 1000 clips", "3 x 1000 clips", *order]
    assert all(value > 0 for part in figures.values() for value in part.values())
    one, mixed = figures["1 x 1000 clips"], figures["3 x 1000 clips"]
    assert more == {figure: mixed[figure] - one[figure] for figure in one}
