import io
import itertools
import json

import numpy as np
import pytest
import simplejpeg
import tensorflow_datasets as tfds
from PIL import Image

from data_pipeline.corpora import folds, labelled, protocols
from data_pipeline.format.labelled_record import parse_clip
from data_pipeline.format.labelled_set import read_labelled_set
from data_pipeline.preparation.labelled_builder import prepare_labelled
from tests.support import labelled_fixtures as fixtures
from tests.support.corpus_fixtures import PROTOBUF_IN_TFDS, picture, tree

pytestmark = pytest.mark.filterwarnings(PROTOBUF_IN_TFDS)


def records(root):
    source = tfds.builder_from_directory(root / "clips/1.0.0").as_data_source()
    (split,) = source
    return [parse_clip(row["record"]) for row in source[split]]


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    root = tmp_path_factory.mktemp("made_up")
    fixtures.write_made_up(root)
    return root


@pytest.fixture(scope="module")
def prepared(made_up, tmp_path_factory):
    output = tmp_path_factory.mktemp("prepared")
    fixtures.prepare("made_up", made_up, output)
    return output


def test_a_made_up_corpus_is_prepared(prepared):
    found = read_labelled_set(prepared)
    assert (found.dataset, found.n_clips, found.height, found.width) == ("made_up", 8, 32, 32)
    assert found.rejected == {}
    assert [clip.n_frames for clip in found.clips] == list(range(20, 28))
    assert found.clips[1].labels == {"emotion": "DIS"}
    assert found.clips[1].speaker == "speaker1"
    stored = records(prepared)
    assert [record.clip for record in stored] == [clip.name for clip in found.clips]
    assert [len(record.samples) for record in stored] == [clip.n_samples for clip in found.clips]
    # The first clip's sound is AAC in its video, the others are wav files.
    assert abs(found.clips[0].n_samples - 12_800) < 16
    assert found.clips[1].n_samples == 21 * 640
    frame = simplejpeg.decode_jpeg(stored[0].jpeg(19))
    assert frame.shape == (32, 32, 3)


def test_the_same_command_goes_on_and_gives_the_same_bytes(made_up, prepared, tmp_path):
    def half(specs):
        fixtures.here(specs[: len(specs) // 2])

    with pytest.raises(RuntimeError, match="is not finished; run the same command again"):
        fixtures.prepare("made_up", made_up, tmp_path, run=half)
    with pytest.raises(FileNotFoundError, match="its preparation did not finish"):
        read_labelled_set(tmp_path)
    made = []
    fixtures.prepare(
        "made_up", made_up, tmp_path, run=lambda specs: (made.extend(specs), fixtures.here(specs))
    )
    assert len(made) == 4
    assert tree(tmp_path) == tree(prepared)


def test_other_options_need_another_output(made_up, prepared):
    with pytest.raises(ValueError, match=r"side was 32 and is now 48\): choose another --output"):
        fixtures.prepare("made_up", made_up, prepared, side=48)
    clips = labelled.find("made_up", made_up)
    with pytest.raises(ValueError, match="n_clips was 8 and is now 7"):
        prepare_labelled("made_up", clips[1:], prepared, 32, fixtures.here)


def test_a_directory_with_other_files_is_refused(made_up, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"notes\.txt but no plan\.json: choose an empty --output"):
        fixtures.prepare("made_up", made_up, tmp_path)


def test_a_wrong_label_is_found_before_the_work(made_up, tmp_path):
    clips = labelled.find("made_up", made_up)
    clips[2] = clips[2]._replace(labels={"emotion": "JOY"})
    with pytest.raises(ValueError, match="clip clip002 has the label 'JOY'"):
        prepare_labelled("made_up", clips, tmp_path / "out", 32, pytest.fail)


@pytest.fixture(scope="module")
def crema_d(tmp_path_factory):
    """Face frames of four clips, one of which has no sound and one a broken frame; a video of two."""
    root = tmp_path_factory.mktemp("crema_d")
    names = [f"{actor}_DFA_{emotion}_XX" for actor in (1001, 1091) for emotion in ("ANG", "SAD")]
    for name in names:
        fixtures.write_frames(root / "faces" / name, 6)
        fixtures.write_sound(root / "AudioWAV" / f"{name}.wav", 1.0)
    (root / "AudioWAV" / f"{names[0]}.wav").unlink()
    (root / "faces" / names[1] / "frame_000003.jpg").write_bytes(b"\xff\xd8no picture")
    fixtures.write_video(root / "VideoFlash" / f"{names[2]}.flv", 30)
    fixtures.write_video(root / "VideoMP4" / f"{names[3]}.mp4", 25)
    fixtures.write_sound(root / "AudioWAV" / "1002_IEO_NEU_XX.wav", 0.05)
    fixtures.write_frames(root / "faces" / "1002_IEO_NEU_XX", 2, ".png")
    fixtures.write_sound(root / "AudioWAV" / "1003_IEO_NEU_XX.wav", 1.0)
    return root


def test_face_frames_are_stretched_as_pillow_does_it(crema_d, tmp_path):
    found = fixtures.prepare("crema_d", crema_d, tmp_path, frames=crema_d / "faces")
    assert [clip.name for clip in found.clips] == ["1091_DFA_ANG_XX", "1091_DFA_SAD_XX"]
    assert found.rejected == {
        "corrupt_frame": 1,
        "missing_audio": 1,
        "missing_frames": 1,
        "too_short_audio": 1,
    }
    rejected = [json.loads(line) for line in (tmp_path / "rejected.jsonl").read_text().splitlines()]
    assert [line["clip"][:8] for line in rejected] == ["1001_DFA", "1001_DFA", "1002_IEO", "1003_IEO"]
    last = folds.differences(protocols.protocol("crema_d"), found.clips)[-1]
    assert last == "crema_d: 2 clips, the protocol has 7,442"
    record = records(tmp_path)[0]
    stored = Image.open(crema_d / "faces" / record.clip / "frame_000004.jpg")
    expected = np.asarray(stored.resize((32, 32), Image.Resampling.BILINEAR), np.float64)
    ours = np.asarray(Image.open(io.BytesIO(record.jpeg(3))), np.float64)
    assert np.abs(ours - expected).mean() < 3  # JPEG at quality 95 of blocks of random colours
    # The order of the names is the order of the frames.
    shifts = [simplejpeg.decode_jpeg(record.jpeg(index)) for index in range(6)]
    assert all((a != b).any() for a, b in itertools.pairwise(shifts))


def test_videos_give_25_frames_a_second(crema_d, tmp_path):
    found = fixtures.prepare("crema_d", crema_d, tmp_path)
    assert {clip.name: clip.n_frames for clip in found.clips} == {
        "1091_DFA_ANG_XX": 30,
        "1091_DFA_SAD_XX": 25,
    }
    stored = simplejpeg.decode_jpeg(records(tmp_path)[1].jpeg(0))
    expected = Image.fromarray(picture(1)[0]).resize((32, 32), Image.Resampling.BILINEAR)
    assert (
        np.abs(stored.astype(float) - np.asarray(expected, float)).mean() < 12
    )  # the whole frame, stretched
