import json
import pickle
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.format.clip_sampling import ClipSampling
from data_pipeline.reading import shards
from data_pipeline.reading.requests import NO_CLIP, ClipRequest
from data_pipeline.reading.sources import ClipSource
from tests.support.set_fixtures import write_set
from tests.support.shard_damage import flip_bytes, shard, truncate

FRAMES = [70, 100, 64, 61, 80, 90, 120, 75, 66, 30]
SAMPLING = ClipSampling()


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("healthy"), FRAMES)


@pytest.fixture
def copy(healthy, tmp_path):
    return shutil.copytree(healthy, tmp_path / "set")


def read_all(source: ClipSource, draw: float = 0.5) -> list[tuple[int, int]]:
    frames, audio = source.empty_sample()
    return [source.read(ClipRequest(example, draw), frames, audio) for example in range(len(source))]


def assert_is_sample(example: int, draw: float, frames: np.ndarray, audio: np.ndarray, samples: int):
    """What was read is what `set_fixtures.write_set` wrote for that clip."""
    n_frames = FRAMES[example]
    start = SAMPLING.start(draw, n_frames)
    indices = SAMPLING.frame_indices(start, n_frames)
    first, count = SAMPLING.audio_span(start, indices[-1], n_frames, 25, 16_000)
    expected = np.stack([np.array(indices), np.full(16, example), np.full(16, 128)], -1)
    assert np.abs(frames.astype(int) - expected[:, None, None]).max() <= 2  # JPEG rounds
    assert samples == min(count, n_frames * 640 - first)
    np.testing.assert_array_equal(audio[:samples], np.arange(first, first + samples) % 30_000)
    assert not audio[samples:].any()


@settings(deadline=None, max_examples=60)
@given(example=st.integers(0, len(FRAMES) - 1), draw=st.floats(0, 1, exclude_max=True))
def test_samples_are_the_frames_and_the_sound_asked_for(healthy, example, draw):
    source = ClipSource([healthy], SAMPLING)
    frames, audio = source.empty_sample()
    frames[:], audio[:] = 99, 99
    read, samples = source.read(ClipRequest(example, draw), frames, audio)
    assert read == example
    assert_is_sample(example, draw, frames, audio, samples)


def test_fewer_frames_and_a_longer_stride(healthy):
    source = ClipSource([healthy], ClipSampling(frames=4, stride=8))
    frames, audio = source.empty_sample()
    assert (frames.shape, audio.shape) == ((4, 16, 16, 3), (33 * 640,))
    source.read(ClipRequest(1, 0.999), frames, audio)
    np.testing.assert_allclose(frames[:, 0, 0, 0], [68, 76, 84, 92], atol=2)


def test_example_ids_count_through_all_sets(healthy, tmp_path):
    source = ClipSource([healthy, write_set(tmp_path, [64, 64])], SAMPLING)
    assert len(source) == len(FRAMES) + 2
    assert [example for example, _ in read_all(source)] == list(range(len(source)))
    frames, audio = source.empty_sample()
    source.read(ClipRequest(len(FRAMES) + 1, 0.0), frames, audio)
    assert frames[0, 0, 0, 1] == pytest.approx(1, abs=2)


def test_a_pickled_source_reads_the_same(healthy):
    source = ClipSource([healthy], SAMPLING)
    before = read_all(source)  # opens its files
    assert read_all(pickle.loads(pickle.dumps(source))) == before


# --- Broken sets --------------------------------------------------------------------------------------------

DAMAGE = {
    "flipped video": (lambda root: flip_bytes(shard(root, "video", 0), 0.4, 0.41), {0, 1, 2, 3}),
    "flipped audio": (lambda root: flip_bytes(shard(root, "audio", 0), 0.3, 0.31), {0, 1, 2, 3}),
    "truncated video": (lambda root: truncate(shard(root, "video", 1)), {4, 5, 6, 7}),
    "truncated audio": (lambda root: truncate(shard(root, "audio", 1)), {4, 5, 6, 7}),
    "missing video": (lambda root: shard(root, "video", 2).unlink(), {8, 9}),
    "empty audio": (lambda root: shard(root, "audio", 2).write_bytes(b""), {8, 9}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_broken_clips_are_replaced_alike_everywhere_and_named(copy, damage):
    harm, suspects = DAMAGE[damage]
    harm(copy)
    source = ClipSource([copy], SAMPLING)
    # The damage may be in any of the four phases: read from starts in all of them.
    broken = {}
    for draw in np.linspace(0, 0.99, 9):
        read = read_all(source, draw)
        assert read == read_all(ClipSource([copy], SAMPLING), draw)
        for wanted, (got, samples) in enumerate(read):
            assert samples > 1_024
            lines = source.diagnose(ClipRequest(wanted, draw))
            assert (wanted in lines) == (got != wanted)
            assert got not in lines
            broken |= lines
    assert broken
    assert set(broken) <= suspects
    for example, line in broken.items():
        assert f"clip/{example} (clip {example} of {copy})" in line
        assert "\n" not in line


def test_replacements_are_whole_samples_of_their_clip(copy):
    truncate(shard(copy, "video", 0))
    source = ClipSource([copy], SAMPLING)
    frames, audio = source.empty_sample()
    for wanted in range(4):
        got, samples = source.read(ClipRequest(wanted, 0.7), frames, audio)
        assert got >= 4
        assert_is_sample(got, 0.7, frames, audio, samples)


def test_too_little_sound_makes_a_clip_unusable(tmp_path):
    source = ClipSource([write_set(tmp_path, [70, 80, 90], silent=(1,))], SAMPLING)
    assert read_all(source, 0.0)[1][0] in (0, 2)
    (line,) = source.diagnose(ClipRequest(1, 0.0)).values()
    assert "UnusableSampleError: 640 samples of sound" in line


def test_frames_of_another_size_make_a_clip_unusable(copy):
    about = json.loads((copy / "dataset.json").read_text())
    (copy / "dataset.json").write_text(json.dumps(about | {"height": 8}))
    with pytest.raises(ValueError, match=r"none of 10 clips tried can be read"):
        ClipSource([copy], SAMPLING)


def test_frames_that_do_not_decode_make_a_clip_unusable(tmp_path):
    source = ClipSource([write_set(tmp_path, [70, 80, 90], scrambled=(1,))], SAMPLING)
    assert read_all(source, 0.0)[1][0] in (0, 2)
    assert "clip/1" in source.diagnose(ClipRequest(1, 0.0))[1]


def test_a_set_with_a_single_good_clip_serves_it(tmp_path):
    root = write_set(tmp_path, [70] * 200, clips_a_shard=1)
    for index in range(200):
        if index != 77:
            truncate(shard(root, "video", index))
    # About thirty hashes rarely give this one of 200 clips: the clip found at the start must be used.
    assert {example for example, _ in read_all(ClipSource([root], SAMPLING))} == {77}


def test_a_wholly_unreadable_set_is_one_clear_error(copy):
    for index in range(3):
        truncate(shard(copy, "audio", index))
    with pytest.raises(ValueError, match=r"set: none of 10 clips tried can be read \(RuntimeError: .*\)$"):
        ClipSource([copy], SAMPLING)


def test_lost_storage_gives_no_clip_and_no_exception(copy):
    source = pickle.loads(pickle.dumps(ClipSource([copy], SAMPLING)))  # no file is open
    shutil.rmtree(copy)
    frames, audio = source.empty_sample()
    assert source.read(ClipRequest(3, 0.5), frames, audio) == (NO_CLIP, 0)
    assert not frames.any()
    assert not audio.any()


# --- Sets that cannot be used -------------------------------------------------------------------------------


def test_sets_that_do_not_fit_are_refused(healthy, tmp_path):
    other = write_set(tmp_path / "other", [64], size=32)
    with pytest.raises(ValueError, match=r"sets differ in \(height, width, fps, sample rate\)"):
        ClipSource([healthy, other], SAMPLING)
    with pytest.raises(ValueError, match="stride 3 is not a multiple of 4"):
        ClipSource([healthy], ClipSampling(stride=3))
    with pytest.raises(FileNotFoundError, match="there is no such directory"):
        ClipSource([tmp_path / "nowhere"], SAMPLING)
    with pytest.raises(ValueError, match="mount the bucket"):
        ClipSource(["gs://bucket/set"], SAMPLING)
    with pytest.raises(ValueError, match="at least one directory"):
        ClipSource([], SAMPLING)
    with pytest.raises(ValueError, match="holds no clip"):
        ClipSource([write_set(tmp_path / "empty", [])], SAMPLING)


def edit(root, change):
    """Changes the shards of a set's description."""
    about = json.loads((root / "dataset.json").read_text())
    change(about["shards"])
    (root / "dataset.json").write_text(json.dumps(about))


@pytest.mark.parametrize("kind", ["audio", "video"])
@pytest.mark.parametrize(("first", "second"), [(3, 5), (5, 3), (0, 8)])
def test_counts_that_contradict_a_shard_are_refused(copy, kind, first, second):
    """With the right sum, the numbers of clips would shift, or clips at a shard's end would never be read."""
    other = "audio" if kind == "video" else "video"
    for index in range(3):
        truncate(shard(copy, other, index))  # a damaged shard has no count, and is no error by itself

    def change(shards):
        shards[0]["n_clips"], shards[1]["n_clips"] = first, second

    edit(copy, change)
    with pytest.raises(ValueError, match=r"dataset\.json: .* should hold \d+ records but holds \d+: copy"):
        ClipSource([copy], SAMPLING)


def test_a_shard_that_is_listed_twice_is_refused(copy):
    edit(copy, lambda shards: shards.__setitem__(1, shards[0]))
    with pytest.raises(ValueError, match=r"shards\[1\]\.video is .*, as shards\[0\]\.video is"):
        ClipSource([copy], SAMPLING)


def test_a_shard_of_another_version_of_the_set_is_refused(copy, tmp_path):
    other = write_set(tmp_path / "other", [64] * 9, clips_a_shard=3)
    shutil.copy(shard(other, "audio", 0), shard(copy, "audio", 1))
    with pytest.raises(ValueError, match=r"audio.*00001-of-00003 should hold 4 records but holds 3"):
        ClipSource([copy], SAMPLING)


@pytest.mark.parametrize(("sets", "every"), [(1, 2), (2, 2), (3, 3), (30, 20)])
def test_of_many_large_sets_not_every_shard_is_counted(healthy, monkeypatch, sets, every):
    """Of 20 shards, if 10 of a set and 24 in all are counted."""
    found = []
    monkeypatch.setattr(shards, "_CHECKED", 10)
    monkeypatch.setattr(shards, "_CHECKED_IN_ALL", 24)
    monkeypatch.setattr(shards, "_records_in", lambda file: found.append(file) or 4)
    lengths = {str(shard(healthy, "audio", number)): 4 for number in range(3)}
    lengths |= {f"{number}.array_record": 4 for number in range(17)}
    shards.open_shards(healthy / "dataset.json", lengths, sets)
    assert sorted(found) == sorted(list(lengths)[::every])


def test_a_shard_of_another_version_is_found_in_a_mixture_too(healthy, copy, tmp_path):
    other = write_set(tmp_path / "other", [64] * 9, clips_a_shard=3)
    shutil.copy(shard(other, "audio", 0), shard(copy, "audio", 1))
    with pytest.raises(ValueError, match=r"audio.*00001-of-00003 should hold 4 records but holds 3"):
        ClipSource([healthy, copy], SAMPLING)


def test_too_low_a_limit_on_open_files_is_found_early(monkeypatch):
    limits = {"now": (100, 1_000)}
    monkeypatch.setattr(shards.resource, "getrlimit", lambda _: limits["now"])
    monkeypatch.setattr(shards.resource, "setrlimit", lambda _, new: limits.update(now=new))
    shards.allow_open_files(300)
    assert limits["now"] == (556, 1_000)
    with pytest.raises(ValueError, match=r"900 shards stay open, but the limit on open files is 1000"):
        shards.allow_open_files(900)
