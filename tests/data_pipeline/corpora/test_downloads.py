"""Downloads of empty files: only names are looked at."""

import pytest

from data_pipeline.corpora import folds, labelled
from data_pipeline.corpora.protocols import PROTOCOLS
from data_pipeline.format.labelled_set import LabelledClip
from tests.support import data_set_names


def touch(root, *places):
    for place in places:
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def differences(protocol, found):
    clips = [LabelledClip(clip.name, 80, 50_000, clip.speaker, clip.labels, clip.folds) for clip in found]
    return folds.differences(PROTOCOLS[protocol], clips)


@pytest.mark.parametrize("videos", ["VideoFlash/{}.flv", "VideoMP4/{}.mp4"])
def test_the_whole_crema_d_has_the_protocol_s_clips(tmp_path, videos):
    names = data_set_names.crema_d()
    touch(tmp_path, *(f"AudioWAV/{name}.wav" for name in names), *(videos.format(name) for name in names))
    touch(tmp_path, "AudioWAV/readme.wav", "AudioWAV/._1001_DFA_ANG_XX.wav")
    found = labelled.find("crema_d", tmp_path)
    assert differences("crema_d", found) == []
    assert found[0].video == str(tmp_path / videos.format(found[0].name))
    assert found[0].audio == str(tmp_path / f"AudioWAV/{found[0].name}.wav")
    assert found[0].frames is None


def test_a_clip_of_crema_d_without_a_file_is_listed(tmp_path):
    touch(tmp_path, "AudioWAV/1001_DFA_ANG_XX.wav", "VideoMP4/1002_DFA_SAD_XX.mp4")
    (tmp_path / "faces" / "1003_DFA_NEU_XX").mkdir(parents=True)
    found = labelled.find("crema_d", tmp_path, frames=tmp_path / "faces")
    assert [clip.speaker for clip in found] == ["1001", "1002", "1003"]
    assert found[0].frames == str(tmp_path / "faces/1001_DFA_ANG_XX")
    assert found[1].audio == str(tmp_path / "AudioWAV/1002_DFA_SAD_XX.wav")


def test_the_whole_ravdess_has_the_protocol_s_clips(tmp_path):
    for name in data_set_names.ravdess():
        actor, take = name.split("/02")
        touch(
            tmp_path,
            f"Video_Speech_{actor}/{actor}/01{take}.mp4",
            f"Video_Speech_{actor}/{actor}/02{take}.mp4",
        )
        touch(tmp_path, f"Audio_Speech/{actor}/03{take}.wav")
    touch(tmp_path, "Video_Song_Actor_01/Actor_01/01-02-01-01-01-01-01.mp4")
    found = labelled.find("ravdess", tmp_path)
    assert differences("ravdess", found) == []
    assert found[0].video.endswith("Actor_01/02-01-01-01-01-01-01.mp4")
    assert found[0].audio.endswith("Actor_01/03-01-01-01-01-01-01.wav")
    assert found[0].labels == {"emotion": "neutral"}


def test_the_sound_of_ravdess_may_be_that_of_the_video_with_both(tmp_path):
    touch(tmp_path, "Actor_02/01-01-08-01-01-01-02.mp4")
    (clip,) = labelled.find("ravdess", tmp_path)
    assert clip.video == clip.audio == str(tmp_path / "Actor_02/01-01-08-01-01-01-02.mp4")
    assert clip.name == "Actor_02/02-01-08-01-01-01-02"


def test_iemocap_is_labelled_by_its_evaluations(tmp_path):
    lines = [
        "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]",
        "",
        "[6.2901 - 8.2357]\tSes02F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]",
        "C-E2:\tNeutral;\t()",
        "[10.0100 - 11.3925]\tSes02F_impro01_M001\texc\t[2.5000, 2.5000, 2.5000]",
        "[14.8872 - 18.0175]\tSes02F_impro01_F002\txxx\t[2.5000, 2.5000, 2.5000]",
    ]
    place = tmp_path / "Session2/dialog/EmoEvaluation/Ses02F_impro01.txt"
    place.parent.mkdir(parents=True)
    place.write_text("\n".join(lines) + "\n")
    (tmp_path / "faces").mkdir()
    found = labelled.find("iemocap", tmp_path, frames=tmp_path / "faces")
    assert [clip.labels["emotion"] for clip in found] == ["neutral", "undecided", "excitement"]
    assert {clip.speaker for clip in found} == {"session2"}
    assert found[0].audio == str(tmp_path / "Session2/sentences/wav/Ses02F_impro01/Ses02F_impro01_F000.wav")
    assert differences("iemocap", found) == ["iemocap: 2 clips, the protocol has 5,531"]


def write_labels(root, *rows, header="clip,speaker,emotion"):
    (root / "labels.csv").write_text("\n".join([header, *rows]) + "\n")


def test_made_up_clips_are_those_of_the_table(tmp_path):
    write_labels(tmp_path, "b,s2,SAD,1", "a,s1,ANG,0", header="clip,speaker,emotion,occluded")
    touch(tmp_path, "video/a.mp4", "video/b.mp4", "video/c.mp4", "sound/b.wav")
    first, second = labelled.find("made_up", tmp_path)
    assert first == ("a", "s1", {"emotion": "ANG"}, {}, None, str(tmp_path / "video/a.mp4"), None)
    assert second.audio == str(tmp_path / "sound/b.wav")


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("clip,emotion", "a,ANG", "has no column speaker"),
        ("clip,speaker,emotion", "a,s1,", "line 2: a field is empty"),
        ("clip,speaker,emotion", "a,s1", "line 2: a field is empty"),
        ("clip,speaker,emotion", "a,s1,ANG\na,s2,SAD", "made_up clip a is listed twice"),
        ("clip,speaker,emotion", '"a\nb",s1,ANG', r"rename 'a\\nb': a name must be printable UTF-8"),
    ],
)
def test_a_damaged_table_is_one_line(tmp_path, header, row, message):
    write_labels(tmp_path, row, header=header)
    with pytest.raises(ValueError, match=message):
        labelled.find("made_up", tmp_path)


@pytest.mark.parametrize(
    ("dataset", "options", "error", "message"),
    [
        ("made_up", {}, FileNotFoundError, r"labels\.csv is missing"),
        ("crema_d", {}, ValueError, "holds no clip of crema_d"),
        ("iemocap", {}, ValueError, "a video of iemocap shows two persons"),
        ("mafw", {}, ValueError, "--splits is missing: the labels of mafw are read from lists"),
        (
            "msp_improv",
            {},
            ValueError,
            "--annotations is missing: the labels of msp_improv are read from lists",
        ),
        ("joy", {}, ValueError, "'joy' is not a data set that is known"),
        ("crema_d", {"frames": "none"}, FileNotFoundError, "none is no directory: --frames holds"),
        ("dfew", {"annotations": "a", "splits": ["b"]}, ValueError, "are both given: give one"),
        ("dfew", {"annotations": "a", "frames": "."}, ValueError, "--frames does not go with lists"),
    ],
)
def test_options_that_do_not_fit_are_one_line(tmp_path, dataset, options, error, message):
    with pytest.raises(error, match=message):
        labelled.find(dataset, tmp_path, **options)


def test_a_missing_download_is_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match="none is no directory: --input is that of the data set dfew"):
        labelled.find("dfew", tmp_path / "none")
