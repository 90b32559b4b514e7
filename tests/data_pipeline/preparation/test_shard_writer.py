import json

import numpy as np
import pytest
import simplejpeg
from array_record.python.array_record_module import ArrayRecordReader
from etils import epath

from data_pipeline.common import atomic_files
from data_pipeline.corpora import clip_files
from data_pipeline.format import prepared_set, records
from data_pipeline.media.decode import Crop
from data_pipeline.preparation import plan, shard_writer
from data_pipeline.preparation.shard_writer import ShardSpec, read_manifest, write_shard
from tests.support import corpus_fixtures


@pytest.fixture
def planned(tmp_path):
    """A planned set of nine clips in eight shards, and the work item of a shard with two."""
    corpus_fixtures.write_corpus(tmp_path / "in")
    output = epath.Path(tmp_path / "out")
    made = plan.ensure_plan(corpus_fixtures.corpus(tmp_path / "in"), output, corpus_fixtures.OPTIONS)
    index = next(index for index in range(made.n_shards) if len(made.members(index)) == 2)
    return made, output, ShardSpec((str(tmp_path / "in"),), str(output), index)


def read(output, made, spec, kind):
    reader = ArrayRecordReader(str(output / prepared_set.shard_file(kind, "dev", spec.index, made.n_shards)))
    stored = reader.read_all()
    reader.close()
    return stored


def test_a_shard_holds_every_frame_and_the_sound_of_its_clips(planned):
    made, output, spec = planned
    write_shard(spec)
    video = [records.parse_video(stored) for stored in read(output, made, spec, "video")]
    audio = [records.parse_audio(stored) for stored in read(output, made, spec, "audio")]
    clips = plan.read_clips(output, spec.index)
    names = [clip.name for clip in clips]
    assert [record.clip for record in audio] == names
    assert [(record.clip, record.phase) for record in video] == [
        (name, p) for name in names for p in range(4)
    ]
    for place, files in enumerate(clips):
        clip = clip_files.load(files, spec.inputs, corpus_fixtures.CROP)
        np.testing.assert_array_equal(audio[place].samples, clip.samples)
        assert audio[place].n_frames == len(clip.jpegs)
        for frame, jpeg in enumerate(clip.jpegs):
            record = video[4 * place + frame % 4]
            assert bytes(record.jpeg(frame // 4)) == jpeg
            assert simplejpeg.decode_jpeg(jpeg).shape == (record.height, record.width, 3) == (32, 32, 3)


def test_manifest_says_what_is_in_the_shard(planned):
    made, output, spec = planned
    assert read_manifest(output, made, spec.index) is None
    write_shard(spec)
    manifest = read_manifest(output, made, spec.index)
    audio = [records.parse_audio(stored) for stored in read(output, made, spec, "audio")]
    assert manifest["clips"] == [
        [record.clip, record.n_frames, len(record.samples), False] for record in audio
    ]
    assert manifest["rejected"] == []
    assert not list((output / atomic_files.UNFINISHED).iterdir())


def test_a_clip_that_cannot_be_used_leaves_no_gap(planned):
    made, output, spec = planned
    first, second = (clip.name for clip in plan.read_clips(output, spec.index))
    corpus_fixtures.files_of(epath.Path(spec.inputs[0]), first)[0].write_bytes(b"no film")
    write_shard(spec)
    assert [records.parse_video(stored).clip for stored in read(output, made, spec, "video")] == [second] * 4
    assert [records.parse_audio(stored).clip for stored in read(output, made, spec, "audio")] == [second]
    rejected = read_manifest(output, made, spec.index)["rejected"]
    assert [(line["path"], line["reason"]) for line in rejected] == [(f"dev/mp4/{first}.mp4", "not_media")]


def test_a_shard_may_end_up_empty(planned):
    made, output, spec = planned
    for clip in plan.read_clips(output, spec.index):
        clip.video.within(spec.inputs).unlink()
    write_shard(spec)
    assert read(output, made, spec, "video") == read(output, made, spec, "audio") == []
    assert {line["reason"] for line in read_manifest(output, made, spec.index)["rejected"]} == {
        "missing_video"
    }


def test_a_finished_shard_is_not_made_again(planned):
    _, _, spec = planned
    write_shard(spec)
    calls = []
    write_shard(spec, lambda: calls.append(1))
    assert calls == []


@pytest.mark.parametrize("damage", ["truncated", "lost", "manifest"])
def test_a_damaged_shard_is_made_again_the_same(planned, damage):
    made, output, spec = planned
    write_shard(spec)
    before = corpus_fixtures.tree(output)
    shard = output / prepared_set.shard_file("video", "dev", spec.index, made.n_shards)
    if damage == "truncated":
        shard.write_bytes(shard.read_bytes()[:-1])
    elif damage == "lost":
        shard.unlink()
    else:
        manifest = output / shard_writer.manifest_file(spec.index)
        manifest.write_text(manifest.read_text()[:40])
    assert corpus_fixtures.tree(output) != before
    write_shard(spec)
    assert corpus_fixtures.tree(output) == before


def test_an_interrupted_shard_leaves_nothing(planned):
    _, output, spec = planned
    before = corpus_fixtures.tree(output)

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shard(spec, stop)
    assert corpus_fixtures.tree(output) == before


def test_a_shard_that_cannot_be_read_back_is_not_published(planned, monkeypatch):
    _, output, spec = planned
    before = corpus_fixtures.tree(output)
    encode = records.encode_audio
    monkeypatch.setattr(
        records, "encode_audio", lambda name, *args, **kwargs: encode("another", *args, **kwargs)
    )
    with pytest.raises(RuntimeError, match=r"record 0 is .*another"):
        write_shard(spec)
    monkeypatch.setattr(shard_writer, "ArrayRecordWriter", Forgetful)
    with pytest.raises(RuntimeError, match="0 records of 8 read back"):
        write_shard(spec)
    assert corpus_fixtures.tree(output) == before


class Forgetful(shard_writer.ArrayRecordWriter):
    def write(self, record):
        pass


def test_crop_decides_the_size_of_frames(tmp_path):
    corpus_fixtures.write_corpus(tmp_path / "in", 1)
    options = plan.Options(crop=Crop(top=4, left=0, height=16, width=48))
    corpus_fixtures.prepare(tmp_path / "in", tmp_path / "out", options)
    described = json.loads((tmp_path / "out/dataset.json").read_text())
    assert (described["height"], described["width"]) == (16, 48)
