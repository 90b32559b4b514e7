import pytest
from etils import epath

from data_pipeline.corpora import folder, passed_over
from tests.support.files import touch


def find(*roots):
    return folder.find_clips([epath.Path(root) for root in roots])


def files(*roots):
    """Name of each clip → the paths of its video and of its sound."""
    return {clip.name: (clip.video.path, clip.audio and clip.audio.path) for clip in find(*roots).clips}


def test_videos_of_any_kind_are_found_at_any_depth(tmp_path):
    touch(tmp_path, "a.mp4", "films/1/b.MKV", "films/1/deeper/still/c.webm", "films/d.avi", "films/notes.txt")
    assert files(tmp_path) == {
        "a": ("a.mp4", None),
        "films/1/b": ("films/1/b.MKV", None),
        "films/1/deeper/still/c": ("films/1/deeper/still/c.webm", None),
        "films/d": ("films/d.avi", None),
    }
    assert find(tmp_path).passed_over == {".txt": 1}


@pytest.mark.parametrize(
    ("video", "sound"),
    [
        ("a.mp4", "a.wav"),
        ("x/a.mp4", "x/a.M4A"),
        ("video/id1/a.mp4", "audio/id1/a.flac"),
        ("set/videos/a.mp4", "set/wav/a.wav"),
        ("mp4/id1/a.mp4", "aac/id1/a.m4a"),
    ],
)
def test_sound_lies_beside_its_video_under_the_same_stem(tmp_path, video, sound):
    touch(tmp_path, video, sound)
    assert list(files(tmp_path).values()) == [(video, sound)]
    assert find(tmp_path).passed_over == {}


def test_sounds_without_a_video_are_counted(tmp_path):
    touch(tmp_path, "a.mp4", "b.wav", "c/a.wav")
    assert list(files(tmp_path).values()) == [("a.mp4", None)]
    assert find(tmp_path).passed_over == {folder.ALONE: 2}


def test_of_several_files_of_a_clip_one_rule_chooses(tmp_path):
    touch(tmp_path, "a.avi", "a.MP4", "a.mp4", "a.wav", "a.mp3")
    assert files(tmp_path) == {"a": ("a.mp4", "a.wav")}
    assert find(tmp_path).passed_over == {passed_over.SECOND: 3}


def test_what_is_no_clip_is_passed_over(tmp_path):
    touch(tmp_path, "a.mp4", "._a.mp4", "Thumbs.db", "__MACOSX/a.mp4", ".cache/b.mp4", "c.mp4.part")
    touch(tmp_path, "d.mp4", "d.mp4.aria2")
    assert list(files(tmp_path)) == ["a"]
    assert find(tmp_path).passed_over == {
        passed_over.COMPANION: 2,
        passed_over.THUMBNAIL: 1,
        passed_over.HIDDEN: 1,
        passed_over.DOWNLOAD: 2,
        passed_over.UNFINISHED_CLIP: 1,
    }


def test_a_directory_is_read_once_however_many_links_lead_to_it(tmp_path):
    touch(tmp_path / "in", "b/1.mp4")
    touch(tmp_path, "disk2/2.mp4")
    (tmp_path / "in/a").symlink_to(tmp_path / "in/b")
    (tmp_path / "in/b/loop").symlink_to(tmp_path / "in")
    (tmp_path / "in/x").symlink_to(tmp_path / "disk2")
    (tmp_path / "in/y").symlink_to(tmp_path / "disk2")
    assert list(files(tmp_path / "in")) == ["b/1", "x/2"]


def test_several_inputs_have_names_of_their_own(tmp_path):
    touch(tmp_path, "one/1.mp4", "two/1.mp4", "else/two/1.mp4")
    clips = find(tmp_path / "one", tmp_path / "two").clips
    assert [(clip.name, clip.video.source) for clip in clips] == [("one/1", 0), ("two/1", 1)]
    with pytest.raises(ValueError, match="two inputs are named two"):
        find(tmp_path / "two", tmp_path / "else/two")


def test_mistakes_are_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is not a directory"):
        find(tmp_path / "nowhere")
    touch(tmp_path, "a.rar", "b.wav")
    with pytest.raises(ValueError, match=r"holds no video \(\.mp4 .*\), but 1 \.rar, 1 sounds without a"):
        find(tmp_path)
    touch(tmp_path, "line\nfeed.mp4")
    with pytest.raises(ValueError, match=r"rename 'line\\nfeed'"):
        find(tmp_path)
