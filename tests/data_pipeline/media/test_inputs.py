"""Files, folders and lists are found with the sound beside them, once each, under different names."""

import pytest

from data_pipeline.media.inputs import find_inputs


@pytest.fixture
def tree(tmp_path):
    for name in ("b/x.MP4", "b/x.wav", "a.mkv", "c/sound.flac", "c/notes.txt", "c/.hidden.mp4", ".git/y.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def names(*given):
    return [each.name for each in find_inputs([str(each) for each in given])]


def test_a_folder_is_searched_and_a_sound_beside_belongs_to_its_video(tree):
    found = find_inputs([str(tree)])
    assert [each.name for each in found] == ["a.mkv", "b/x.MP4", "c/sound.flac"]
    assert [each.beside for each in found] == [None, tree / "b/x.wav", None]
    assert names(tree / "b/x.wav") == ["x.wav"]


def test_sounds_may_lie_in_a_folder_beside_that_of_the_videos(tmp_path):
    for name in ("dev/mp4/id1/a.mp4", "dev/aac/id1/a.m4a", "dev/mp4/id2/a.mp4", "dev/aac/id3/a.m4a"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = {each.name: each.beside for each in find_inputs([str(tmp_path)])}
    assert found == {
        "dev/aac/id3/a.m4a": None,
        "dev/mp4/id1/a.mp4": tmp_path / "dev/aac/id1/a.m4a",
        "dev/mp4/id2/a.mp4": None,
    }


def test_an_input_that_is_given_twice_is_read_once(tree):
    assert names(tree / "a.mkv", tree, tree / "b/x.MP4") == ["a.mkv", "b/x.MP4", "c/sound.flac"]


def test_inputs_of_one_name_are_told_apart_by_their_paths(tree):
    (tree / "c/x.MP4").touch()
    first, second = names(tree / "b/x.MP4", tree / "c/x.MP4")
    assert first == str(tree / "b/x.MP4").lstrip("/")
    assert second.endswith("c/x.MP4")


def test_a_list_names_files_beside_it(tree):
    (tree / "list.txt").write_text(f"# of today\nb/x.MP4\n\n{tree}/a.mkv\nmissing.mp4\n")
    assert names(tree / "list.txt") == ["b/x.MP4", "a.mkv", "missing.mp4"]


def test_what_cannot_be_read_is_named(tree):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.mp4: no such file or folder"):
        names(tree / "nowhere.mp4")
    (tree / "slides.pdf").touch()
    with pytest.raises(ValueError, match=r"slides\.pdf: the ending is none of a video or sound \(\.mp4"):
        names(tree / "slides.pdf")
    (tree / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no video or sound in .*empty"):
        names(tree / "empty")
    (tree / "list.txt").write_text("empty\n")
    with pytest.raises(ValueError, match=r"list\.txt: empty is a folder"):
        names(tree / "list.txt")
