"""Sets of every layout hold the same clips, and recordings are cut into parts of the whole."""

import dataclasses

import numpy as np
import pytest

from data_pipeline.format import records
from data_pipeline.media.decode import Stretch
from data_pipeline.media.encode import write_m4a, write_mp4
from data_pipeline.preparation import builder
from data_pipeline.reading.sources import ClipSet
from tests.support import corpus_fixtures


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpus")
    corpus_fixtures.write_corpus(root, 5)
    return root


def contents(output, named):
    """Name of each clip → its frames and its sound, as they are stored."""
    clips = ClipSet(output)
    clips.open()
    found = {}
    for number in range(len(clips)):
        sound = records.parse_audio(clips.audio[number])
        phases = [
            records.parse_video(clips.video[records.STRIDE * number + p]) for p in range(records.STRIDE)
        ]
        jpegs = [
            bytes(phases[frame % records.STRIDE].jpeg(frame // records.STRIDE))
            for frame in range(sound.n_frames)
        ]
        found[named(sound.clip)] = (jpegs, sound.samples.tobytes())
    return found


def prepare(corpus, output, **changes):
    options = dataclasses.replace(corpus_fixtures.OPTIONS, **changes)
    return builder.prepare(corpus, output, options, corpus_fixtures.here)


def test_a_list_with_ids_makes_the_same_bytes_as_voxceleb2(corpus, tmp_path):
    prepare(corpus_fixtures.corpus(corpus), tmp_path / "tree")
    paths = sorted(path.relative_to(corpus / "dev/mp4") for path in (corpus / "dev/mp4").rglob("*.mp4"))
    names = [path.with_suffix("") for path in paths]
    lines = [f"{name},dev/mp4/{name}.mp4,dev/aac/{name}.m4a" for name in names]
    (tmp_path / "clips.csv").write_text("\n".join(["id,video,audio", *lines]))
    described = prepare(corpus_fixtures.corpus(tmp_path / "clips.csv", root=corpus), tmp_path / "list")
    assert described.layout == "list"
    tree, listed = (corpus_fixtures.tree(tmp_path / name) for name in ("tree", "list"))
    for name in [name for name in tree if "array_record" in name]:
        assert listed[name] == tree[name]


def test_a_folder_holds_the_same_clips(corpus, tmp_path):
    prepare(corpus_fixtures.corpus(corpus), tmp_path / "tree")
    described = prepare(corpus_fixtures.corpus(corpus / "dev", layout="folder"), tmp_path / "folder")
    assert described.layout == "folder"
    of_folder = contents(tmp_path / "folder", lambda name: name.removeprefix("mp4/"))
    assert of_folder == contents(tmp_path / "tree", str)


def test_a_repaired_or_moved_corpus_goes_on(corpus, tmp_path):
    """The names are the same, so the same plan holds, with the files as they are now."""
    moved = tmp_path / "moved"
    corpus_fixtures.write_corpus(moved, 5)
    prepare(corpus_fixtures.corpus(corpus), tmp_path / "out")
    before = corpus_fixtures.tree(tmp_path / "out")
    sound = next((moved / "dev/aac").rglob("*.m4a"))
    sound.rename(sound.with_suffix(".M4A"))
    (tmp_path / "out/manifests/00002.json").unlink()
    prepare(corpus_fixtures.corpus(moved), tmp_path / "out")
    after = corpus_fixtures.tree(tmp_path / "out")
    assert {name for name in after if after[name] != before[name]} <= {"plan.json", *lists(after)}
    assert any(".M4A" in after[name].decode() for name in lists(after))


def lists(files):
    return [name for name in files if name.startswith("plan/")]


def test_recordings_are_cut_into_parts_of_the_whole(tmp_path):
    films = tmp_path / "films"
    films.mkdir()
    write_mp4(films / "long.mp4", corpus_fixtures.picture(90))
    write_m4a(films / "long.m4a", corpus_fixtures.tone(90 / 25))
    write_mp4(films / "short.mp4", corpus_fixtures.picture(26, seed=1))
    write_m4a(films / "short.m4a", corpus_fixtures.tone(26 / 25))
    prepare(corpus_fixtures.corpus(films), tmp_path / "whole")
    prepare(corpus_fixtures.corpus(films), tmp_path / "cut", clip_seconds=1.0)
    whole, cut = (contents(tmp_path / name, str) for name in ("whole", "cut"))
    assert sorted(cut) == ["long@0.00-1.00", "long@1.00-2.00", "long@2.00-3.00", "long@3.00-3.60", "short"]
    assert cut.pop("short") == whole["short"]
    parts = [cut[name] for name in sorted(cut)]
    assert [jpeg for jpegs, _ in parts for jpeg in jpegs] == whole["long"][0]
    sound = np.frombuffer(b"".join(samples for _, samples in parts), np.int16)
    np.testing.assert_array_equal(sound, np.frombuffer(whole["long"][1], np.int16)[: len(sound)])


def test_whole_frames_are_scaled(corpus, tmp_path):
    described = prepare(corpus_fixtures.corpus(corpus), tmp_path / "out", crop=Stretch(64))
    assert (described.height, described.width, described.n_clips) == (64, 64, 5)


def test_a_length_that_cuts_nothing_is_refused():
    with pytest.raises(ValueError, match=r"clip_seconds must be from 1 to 600, but is 0\.5"):
        dataclasses.replace(corpus_fixtures.OPTIONS, clip_seconds=0.5)
