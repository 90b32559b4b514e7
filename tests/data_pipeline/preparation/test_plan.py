import dataclasses

import pytest
from etils import epath

from data_pipeline.common import atomic_files
from data_pipeline.corpora import clip_files, layouts, voxceleb2
from data_pipeline.corpora.clip_files import ClipFiles, Clips, InputFile
from data_pipeline.media import decode as media
from data_pipeline.preparation import plan
from tests.support import corpus_fixtures


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpus")
    corpus_fixtures.write_corpus(root, 11)
    return epath.Path(root)


def make(corpus, output, **changes):
    options = dataclasses.replace(corpus_fixtures.OPTIONS, **changes)
    return plan.ensure_plan(corpus_fixtures.corpus(corpus), epath.Path(output), options)


def order(output, made):
    shards = [plan.read_clips(epath.Path(output), index) for index in range(made.n_shards)]
    return [clip.name for clips in shards for clip in clips]


def names(corpus):
    return [clip.name for clip in voxceleb2.find_clips([corpus], "dev").clips]


def test_every_clip_is_in_one_shard(corpus, tmp_path):
    made = make(corpus, tmp_path)
    assert sorted(order(tmp_path, made)) == names(corpus)
    sizes = [len(plan.read_clips(epath.Path(tmp_path), index)) for index in range(made.n_shards)]
    assert sizes == [len(made.members(index)) for index in range(made.n_shards)]
    assert max(sizes) - min(sizes) <= 1


def test_the_seed_decides_the_order(corpus, tmp_path):
    orders = []
    for place, seed in enumerate((0, 0, 1)):
        output = tmp_path / str(place)
        orders.append(order(output, make(corpus, output, seed=seed)))
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != sorted(orders[0])


def test_number_of_shards_follows_from_the_measured_size(corpus, tmp_path):
    clips = voxceleb2.find_clips([corpus], "dev").clips
    loaded = [clip_files.load(clip, [corpus], corpus_fixtures.CROP) for clip in clips]
    clip_mb = sum(len(jpeg) for clip in loaded for jpeg in clip.jpegs) / len(loaded) / 1e6
    assert make(corpus, tmp_path / "large").n_shards == 8  # the fewest
    # The mean is of 8 of the 11 clips, whose lengths are within 20 % of it.
    assert make(corpus, tmp_path / "some", shard_mb=clip_mb * 1.05).n_shards in (10, 11)
    assert make(corpus, tmp_path / "small", shard_mb=clip_mb / 10).n_shards == 11  # no empty ones


def test_an_existing_plan_is_kept(corpus, tmp_path):
    made = make(corpus, tmp_path)
    before = corpus_fixtures.tree(tmp_path)
    assert make(corpus, tmp_path) == made
    assert corpus_fixtures.tree(tmp_path) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "seed was 0 and is now 1"),
        ({"shard_mb": 5.0}, r"shard_mb was 768\.0 and is now 5\.0"),
        ({"crop": media.Crop(0, 0, 32, 32)}, "crop was Crop"),
    ],
)
def test_other_options_are_refused(corpus, tmp_path, changes, message):
    make(corpus, tmp_path)
    before = corpus_fixtures.tree(tmp_path)
    with pytest.raises(ValueError, match=message) as caught:
        make(corpus, tmp_path, **changes)
    assert "\n" not in str(caught.value)
    assert corpus_fixtures.tree(tmp_path) == before


def test_another_input_is_refused(corpus, tmp_path):
    corpus_fixtures.write_corpus(tmp_path / "in", 3)
    make(epath.Path(tmp_path / "in"), tmp_path / "out")
    corpus_fixtures.write_corpus(tmp_path / "in", 4)
    with pytest.raises(ValueError, match="n_clips was 3 and is now 4"):
        make(epath.Path(tmp_path / "in"), tmp_path / "out")


def test_a_directory_with_other_things_is_refused(corpus, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match=r"thesis\.tex"):
        make(corpus, tmp_path)
    assert list(corpus_fixtures.tree(tmp_path)) == ["thesis.tex"]


def test_planning_that_was_killed_begins_again(corpus, tmp_path):
    made = make(corpus, tmp_path)
    before = corpus_fixtures.tree(tmp_path)
    (tmp_path / plan.PLAN).unlink()  # it is written last
    assert make(corpus, tmp_path) == made
    assert corpus_fixtures.tree(tmp_path) == before


def test_an_input_without_usable_clips_is_refused_at_once(corpus, tmp_path):
    with pytest.raises(ValueError, match=r"none of the first 11 clips can be used; .*frame_too_small"):
        make(corpus, tmp_path, crop=media.Crop())
    assert corpus_fixtures.tree(tmp_path) == {}


def test_a_damaged_plan_is_one_clear_error(corpus, tmp_path):
    make(corpus, tmp_path)
    (tmp_path / plan.PLAN).write_text('{"options": {}}')
    with pytest.raises(ValueError, match="is not a plan"):
        plan.read_plan(epath.Path(tmp_path))


@pytest.mark.parametrize("size", [0, -1, float("nan"), float("inf")])
def test_a_shard_must_have_a_size(size):
    with pytest.raises(ValueError, match="shard_mb"):
        plan.Options(shard_mb=size)


@pytest.fixture
def warnings(monkeypatch):
    """The warnings about open files, as texts."""
    lines = []
    monkeypatch.setattr(plan.logging, "warning", lambda text, *values: lines.append(text % values))
    return lines


def large(corpus, output, monkeypatch, n_clips, **changes):
    """Plans a set of `n_clips` clips of 7.68 MB of video each: a hundred fill a shard of the default size."""
    monkeypatch.setattr(atomic_files.os, "fsync", lambda _: None)  # for hundreds of files it takes seconds
    clips = [ClipFiles(f"id1/a/{number:07d}", InputFile(0, "1.mp4")) for number in range(n_clips)]
    monkeypatch.setattr(layouts.voxceleb2, "find_clips", lambda *_: Clips(clips, {}, ""))
    monkeypatch.setattr(plan, "_bytes_of_a_clip", lambda *_: 7.68e6)
    return make(corpus, output, **changes)


@pytest.mark.parametrize(
    ("n_clips", "n_shards", "shard_mb"),
    [
        (700, 8, 768.0),
        (38_300, 383, 768.0),
        (38_400, 384, 768.0),  # the largest set of shards of this size
        (38_401, 384, 769.0),
        (60_000, 384, 1_200.0),
    ],
)
def test_by_default_no_set_needs_more_open_files_than_most_systems_allow(
    corpus, tmp_path, monkeypatch, warnings, n_clips, n_shards, shard_mb
):
    made = large(corpus, tmp_path, monkeypatch, n_clips)
    assert (made.n_shards, made.options.shard_mb) == (n_shards, shard_mb)
    assert 2 * made.n_shards + 256 <= 1_024
    assert warnings == []


def test_a_size_that_needs_many_files_is_obeyed_with_a_warning(corpus, tmp_path, monkeypatch, warnings):
    made = large(corpus, tmp_path, monkeypatch, 1_000, shard_mb=15.36)
    assert made.n_shards == 500
    (line,) = warnings
    assert line.startswith("500 shards of video and as many of sound stay open in training")
    assert large(corpus, tmp_path, monkeypatch, 1_000) == made  # continued without the flag
    assert len(warnings) == 2


def test_a_plan_with_the_earlier_default_is_continued_without_the_flag(corpus, tmp_path):
    made = make(corpus, tmp_path, shard_mb=768.0)
    assert make(corpus, tmp_path) == made


def test_what_was_passed_over_is_told_anew_and_is_no_other_input(corpus, tmp_path):
    corpus_fixtures.write_corpus(tmp_path / "in", 3)
    made = make(epath.Path(tmp_path / "in"), tmp_path / "out")
    assert made.passed_over == {}
    (tmp_path / "in/dev/mp4/.DS_Store").touch()
    again = make(epath.Path(tmp_path / "in"), tmp_path / "out")
    assert again == made
    assert again.passed_over == {"of macOS": 1}


WRONG_SPLITS = [
    "",
    ".",
    "..",
    "a/b",
    "/dev",
    "dev.1",
    "dev a",
    "dev\n",
    "dev+x",
    "dev[:9]",
    "dev@2",
    "-",
    "__",
    "a" * 300,
]


@pytest.mark.parametrize("split", WRONG_SPLITS)
def test_a_split_that_names_no_files_is_refused(split):
    with pytest.raises(ValueError, match="split") as caught:
        plan.Options(split)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("split", ["dev", "dev-1", "dev_1", "1", "-dev", "développement", "笑", "a" * 215])
def test_other_splits_are_accepted(split):
    assert plan.Options(split).split == split
