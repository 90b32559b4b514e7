"""Preparation as a whole: a corpus with broken clips, interruptions, other runners."""

import json
import os
import shutil
from pathlib import Path

import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader

from data_pipeline.common import atomic_files
from data_pipeline.format import records
from data_pipeline.format.prepared_set import read_prepared_set
from data_pipeline.media.encode import write_m4a, write_mp4, write_wav
from data_pipeline.preparation.beam_runner import run_beam
from data_pipeline.preparation.plan import Options
from data_pipeline.synthetic import write_voxceleb2
from tests.support import corpus_fixtures

pytestmark = pytest.mark.filterwarnings(corpus_fixtures.PROTOBUF_IN_TFDS)


def clips_in(root):
    """Names of the clips of a prepared set, in order, from its audio and from its video records."""
    names = {"audio": [], "video": []}
    for shard in read_prepared_set(root).shards:
        for kind, parse in (("audio", records.parse_audio), ("video", records.parse_video)):
            reader = ArrayRecordReader(str(Path(root) / getattr(shard, kind)))
            names[kind] += [parse(stored).clip for stored in reader.read_all()]
            reader.close()
    return names["audio"], names["video"]


def break_clips(root, names):
    """Breaks a clip in each possible way; returns the expected reason for each clip."""
    files = [corpus_fixtures.files_of(root, name) for name in names]
    expected = []

    def broken(reason):
        name = names[len(expected)]
        expected.append((f"dev/mp4/{name}.mp4", reason))
        return files[len(expected) - 1]

    video, _ = broken("no_video_stream")
    write_m4a(video, corpus_fixtures.tone(2.0))
    video, _ = broken("truncated_video")
    os.truncate(video, video.stat().st_size // 2)
    _, audio = broken("empty_audio")
    audio.write_bytes(b"")
    _, audio = broken("missing_audio")
    audio.unlink()
    video, _ = broken("missing_video")
    video.unlink()
    video, _ = broken("too_few_frames")
    write_mp4(video, large_picture(3))
    _, audio = broken("too_short_audio")
    write_m4a(audio, corpus_fixtures.tone(0.04))
    video, audio = broken("length_mismatch")  # 25 fps material under a header that says 30
    write_mp4(video, large_picture(50), fps=30)
    write_m4a(audio, corpus_fixtures.tone(2.0))
    video, _ = broken("not_media")
    video.write_text("Not a film.\n" * 100)
    return sorted(expected)


def large_picture(n_frames):
    return corpus_fixtures.picture(n_frames).repeat(7, axis=1).repeat(5, axis=2)  # 224 × 240


def test_broken_clips_are_listed_and_all_others_are_prepared(tmp_path):
    planned = write_voxceleb2(tmp_path / "in", clips=20, speakers=5, seconds=(1.5, 2.0), workers=1)
    names = [
        str(Path(c.video).relative_to("dev/mp4").with_suffix(""))
        for c in planned
        if c.video.startswith("dev")
    ]
    assert len(names) == 16
    expected = break_clips(tmp_path / "in", names)
    # Three more have something that is mended.
    mended = [corpus_fixtures.files_of(tmp_path / "in", name) for name in names[-3:]]
    write_mp4(mended[0][0], large_picture(60), fps=30)
    write_m4a(mended[0][1], corpus_fixtures.tone(2.0))
    mended[1][1].unlink()
    write_mp4(mended[1][0], large_picture(50), samples=corpus_fixtures.tone(2.0))
    mended[2][1].unlink()
    write_mp4(mended[2][0], large_picture(50))
    write_wav(mended[2][1].with_suffix(".wav"), corpus_fixtures.tone(4.0), 32_000)

    described = corpus_fixtures.prepare(tmp_path / "in", tmp_path / "out", Options())
    lines = [json.loads(line) for line in (tmp_path / "out/rejected.jsonl").read_text().splitlines()]
    assert [(line["path"], line["reason"]) for line in lines] == expected
    assert all(line["message"] for line in lines)
    audio, video = clips_in(tmp_path / "out")
    assert sorted(audio) == sorted(names[len(expected) :])
    assert video == [name for name in audio for _ in range(records.STRIDE)]
    assert described.n_clips == len(audio)
    assert described.n_resampled == 2
    assert sum(described.rejected.values()) == len(expected)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpus")
    corpus_fixtures.write_corpus(root)
    return root


@pytest.fixture(scope="module")
def prepared(corpus, tmp_path_factory):
    output = tmp_path_factory.mktemp("prepared")
    corpus_fixtures.prepare(corpus, output)
    return output


def test_description_counts_what_is_there(corpus, prepared):
    described = read_prepared_set(prepared)
    frames = range(20, 29)
    assert (described.split, described.n_clips, described.n_frames) == ("dev", 9, sum(frames))
    assert described.n_samples == sum(640 * n for n in frames)
    assert sum(shard.n_clips for shard in described.shards) == 9
    files = [prepared / path for shard in described.shards for path in (shard.video, shard.audio)]
    assert described.n_bytes == sum(file.stat().st_size for file in files)
    assert (described.rejected, described.n_resampled) == ({}, 0)


def test_beam_makes_the_same_bytes(corpus, prepared, tmp_path):
    corpus_fixtures.prepare(
        corpus, tmp_path, run=lambda specs, plan: run_beam(specs, ["--direct_num_workers=1"])
    )
    assert corpus_fixtures.tree(tmp_path) == corpus_fixtures.tree(prepared)


def test_only_what_is_missing_is_made(corpus, prepared, tmp_path):
    made = []

    def some(specs, plan):
        made.append([spec.index for spec in specs])
        corpus_fixtures.here(specs[:3], plan)

    with pytest.raises(RuntimeError, match=r"shard 3 is not finished; run the same command again"):
        corpus_fixtures.prepare(corpus, tmp_path, run=some)
    assert not (tmp_path / "dataset.json").exists()
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.array_record-*")}
    with pytest.raises(RuntimeError, match=r"shard 6 is not finished"):
        corpus_fixtures.prepare(corpus, tmp_path, run=some)
    corpus_fixtures.prepare(corpus, tmp_path, run=some)
    corpus_fixtures.prepare(corpus, tmp_path, run=some)
    assert made == [[0, 1, 2, 3, 4, 5, 6, 7], [3, 4, 5, 6, 7], [6, 7], []]
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert corpus_fixtures.tree(tmp_path) == corpus_fixtures.tree(prepared)


def test_a_set_begun_with_another_decoder_gets_no_more_shards(corpus, prepared, tmp_path):
    """The plans of 0.1.0 do not name their decoder."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    begun = json.loads((tmp_path / "plan.json").read_text())
    assert begun.pop("decoder_version") == 3
    (tmp_path / "plan.json").write_text(json.dumps(begun))
    assert corpus_fixtures.prepare(corpus, tmp_path) == read_prepared_set(prepared)  # nothing is missing
    (tmp_path / "manifests/00002.json").unlink()
    before = corpus_fixtures.tree(tmp_path)
    with pytest.raises(
        ValueError, match=r"\(decoder 1, this is 3\), and 1 of 8 shards are missing"
    ) as caught:
        corpus_fixtures.prepare(corpus, tmp_path)
    assert "\n" not in str(caught.value)
    assert corpus_fixtures.tree(tmp_path) == before


def test_files_left_by_a_killed_run_are_deleted(corpus, tmp_path):
    old = tmp_path / atomic_files.UNFINISHED / "old"
    old.mkdir(parents=True)
    (old / "video").write_bytes(b"half")
    corpus_fixtures.prepare(corpus, tmp_path)
    assert not (tmp_path / atomic_files.UNFINISHED).exists()
    old.mkdir(parents=True)
    corpus_fixtures.prepare(corpus, tmp_path)  # with nothing left to make
    assert not (tmp_path / atomic_files.UNFINISHED).exists()


def test_nothing_is_deleted_from_a_directory_with_other_files(corpus, tmp_path):
    for name in ("unfinished", atomic_files.UNFINISHED, "notes"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "novel.txt").write_text("years of work")
    before = corpus_fixtures.tree(tmp_path)
    with pytest.raises(ValueError, match="choose an empty --output"):
        corpus_fixtures.prepare(corpus, tmp_path)
    assert corpus_fixtures.tree(tmp_path) == before


def test_two_runs_at_once_are_refused(corpus, tmp_path):
    def again(specs, plan):
        corpus_fixtures.prepare(corpus, tmp_path)

    with pytest.raises(RuntimeError, match="is being prepared by another process"):
        corpus_fixtures.prepare(corpus, tmp_path, run=again)


def test_the_fingerprint_depends_on_the_bytes(corpus, prepared, tmp_path):
    described = corpus_fixtures.prepare(
        corpus, tmp_path / "other", Options(crop=corpus_fixtures.CROP, seed=1)
    )
    assert described.fingerprint != read_prepared_set(prepared).fingerprint


def test_a_corpus_without_a_usable_clip_is_an_error(tmp_path):
    corpus_fixtures.write_corpus(tmp_path / "in", 2)

    def spoil(specs, plan):
        for file in (tmp_path / "in").rglob("*.mp4"):
            file.write_bytes(b"")
        corpus_fixtures.here(specs, plan)

    with pytest.raises(ValueError, match=r"no clip can be used; .*rejected\.jsonl says why"):
        corpus_fixtures.prepare(tmp_path / "in", tmp_path / "out", run=spoil)
    assert len((tmp_path / "out/rejected.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("split", ["développement", "-1_b", "a" * 215])
def test_a_set_is_prepared_under_any_name_that_is_accepted(tmp_path, split):
    corpus_fixtures.write_corpus(tmp_path / "in", 2)
    (tmp_path / "in/dev").rename(tmp_path / f"in/{split}")
    corpus_fixtures.prepare(tmp_path / "in", tmp_path / "out", Options(split, corpus_fixtures.CROP))
    assert len(clips_in(tmp_path / "out")[0]) == 2
    builder = tfds.builder_from_directory(tmp_path / "out/audio/1.0.0")
    assert builder.info.splits[split].num_examples == 2
