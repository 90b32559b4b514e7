import pytest
from etils import epath

from data_pipeline.corpora import annotations, labelled
from data_pipeline.corpora.annotations import Rewrite, parse_rewrite
from data_pipeline.corpora.protocols import PROTOCOLS


def read(tmp_path, protocol, *lines, rewrites=()):
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return annotations.read_list(
        epath.Path(tmp_path / "list.csv"), PROTOCOLS[protocol], epath.Path("/in"), rewrites
    )


@pytest.mark.parametrize(
    ("protocol", "line", "name", "speaker", "labels"),
    [
        (
            "crema_d",
            "/d/face_aligned/1001_DFA_ANG_XX /d/AudioWAV/1001_DFA_ANG_XX.wav 0",
            "1001_DFA_ANG_XX",
            "1001",
            {"emotion": "ANG"},
        ),
        ("mafw_11", "/d/frames/00019 /d/audio_16k/00019.wav 10", "00019", "", {"single": "DS"}),
        ("mafw_43", "/d/frames/00019 /d/audio_16k/00019.wav 7", "00019", "", {"compound": "07"}),
        (
            "msp_improv",
            "/d/session2/S01A/P/MSP-IMPROV-S01A-F02-P-FM01/MSP-IMPROV-S01A-F02-P-FM01_aligned /d/x.wav 2",
            "MSP-IMPROV-S01A-F02-P-FM01",
            "session2",
            {"emotion": "N"},
        ),
        (
            "ravdess",
            "/d/face_aligned/Actor_07/02-01-05-01-01-01-07 /d/Actor_07/03-01-05-01-01-01-07.wav 4",
            "Actor_07/02-01-05-01-01-01-07",
            "07",
            {"emotion": "angry"},
        ),
        (
            "werewolf_xl",
            "/d/openface/01_01_128/01_01_128_aligned /d/audio_16k/01_01_128.wav 1.0 0.25 -0.5",
            "01_01_128",
            "01",
            {"arousal": 1.0, "valence": 0.25, "dominance": -0.5},
        ),
        ("iemocap", "/d/Ses03M_impro05_M001 /d/x.wav excitement", "Ses03M_impro05_M001", "session3", None),
        ("dfew", "/d/00001 /d/00001.wav anger", "00001", "", {"emotion": "anger"}),
        ("avcaffe_arousal", "/d/p01_task_2_7 /d/p01_task_2_7.wav 3", "p01_task_2_7", "p01", {"arousal": "3"}),
    ],
    ids=lambda value: value if isinstance(value, str) and value in PROTOCOLS else "",
)
def test_a_published_line_tells_clip_speaker_and_label(tmp_path, protocol, line, name, speaker, labels):
    (clip,) = read(tmp_path, protocol, line)
    assert (clip.name, clip.speaker) == (name, speaker)
    assert clip.labels == (labels or {"emotion": "excitement"})
    assert [clip.frames, clip.audio] == line.split()[:2]
    assert clip.video is None


def test_a_line_may_name_a_video_that_has_the_sound_too(tmp_path):
    first, second = read(tmp_path, "dfew", "clips/1.mp4 clips/1.mp4 happy", "clips/2.AVI wav/2.wav 1")
    assert (first.name, first.video, first.audio) == ("1", "/in/clips/1.mp4", None)
    assert (second.name, second.video, second.audio) == ("2", "/in/clips/2.AVI", "/in/wav/2.wav")
    assert second.labels == {"emotion": "sad"}


def test_paths_of_another_machine_are_rewritten(tmp_path):
    rewrites = [parse_rewrite("/home/them=/data"), Rewrite("/home", "/other")]
    (clip,) = read(tmp_path, "dfew", "/home/them/f/1 /home/us/1.wav happy", rewrites=rewrites)
    assert (clip.frames, clip.audio) == ("/data/f/1", "/other/us/1.wav")


@pytest.mark.parametrize(
    ("protocol", "line", "message"),
    [
        ("dfew", "/d/1 happy", "line 2 has 2 fields; it must have"),
        ("dfew", "/d/my clips/1 /d/1.wav happy", "line 2 has 4 fields"),
        (
            "dfew",
            "/d/1 /d/1.wav joy",
            r"line 2: joy is no class of dfew \(happy, sad, .*nor a number below 7",
        ),
        ("dfew", "/d/1 /d/1.wav 7", "line 2: 7 is no class of dfew"),
        ("mafw_43", "/d/1 /d/1.wav 43", r"43 is no class of mafw_43 \(43 classes\)"),
        ("werewolf_xl", "/d/01_1 /d/1.wav 1 2 high", "line 2: 1 2 high are not numbers"),
        ("crema_d", "/d/clip1 /d/1.wav 0", "'clip1' is not the name of a clip of crema_d, such as 1001_DFA"),
    ],
)
def test_a_line_that_cannot_be_understood_is_one_line(tmp_path, protocol, line, message):
    with pytest.raises(ValueError, match=message) as caught:
        read(tmp_path, protocol, "", line)
    assert "\n" not in str(caught.value)


def test_an_empty_or_missing_list_is_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"list\.csv lists no clip"):
        read(tmp_path, "dfew", "")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"bytes\.csv is not a list in UTF-8"):
        labelled.find("werewolf_xl", tmp_path, annotations=tmp_path / "bytes.csv")
    with pytest.raises(FileNotFoundError, match=r"none\.csv is missing: give the path of an annotation list"):
        labelled.find("werewolf_xl", tmp_path, annotations=tmp_path / "none.csv")


@pytest.mark.parametrize("text", ["/old", "=/new"])
def test_a_rewrite_needs_both_parts(text):
    with pytest.raises(ValueError, match="is not OLD=NEW"):
        parse_rewrite(text)
