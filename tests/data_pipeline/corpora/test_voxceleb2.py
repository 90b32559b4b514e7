import os

import pytest
from etils import epath

from data_pipeline.corpora import voxceleb2


def touch(root, *names):
    for name in names:
        path = epath.Path(root) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def test_clips_are_those_with_a_picture_or_a_sound(tmp_path):
    touch(tmp_path, "dev/mp4/id2/a/00002.mp4", "dev/mp4/id1/b/00001.mp4", "dev/aac/id1/b/00001.m4a")
    touch(tmp_path, "dev/aac/id3/c/00009.wav")  # no picture
    touch(
        tmp_path, "dev/mp4/readme.mp4", "dev/mp4/id1/b/00001.txt", "test/mp4/id4/a/00001.mp4"
    )  # none of them
    names = voxceleb2.find_clips(epath.Path(tmp_path), "dev")
    assert names == ["id1/b/00001", "id2/a/00002", "id3/c/00009"]


def test_linked_directories_are_followed_and_nothing_deeper(tmp_path):
    touch(tmp_path, "disk2/b/00001.mp4", "dev/mp4/id1/a/00001.mp4", "dev/mp4/id1/a/deeper/00002.mp4")
    (tmp_path / "dev/mp4/id2").symlink_to(tmp_path / "disk2")
    (tmp_path / "dev/mp4/id1/a/loop").symlink_to(tmp_path / "dev/mp4")
    (tmp_path / "dev/mp4/id1/a/00003.mp4").mkdir()
    assert voxceleb2.find_clips(epath.Path(tmp_path), "dev") == ["id1/a/00001", "id2/b/00001"]


def test_a_directory_that_cannot_be_listed_is_an_error(tmp_path, monkeypatch):
    touch(tmp_path, "dev/mp4/id1/a/00001.mp4", "dev/mp4/id2/b/00001.mp4")
    scandir = os.scandir

    def deny(path):
        if os.fspath(path).endswith("id2"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", deny)
    with pytest.raises(PermissionError, match="dev/mp4/id2"):
        voxceleb2.find_clips(epath.Path(tmp_path), "dev")


@pytest.mark.parametrize("name", ["line\nfeed", "carriage\rreturn", "latin-\udce9"])
def test_names_that_cannot_be_stored_are_refused(tmp_path, name):
    touch(tmp_path, "dev/mp4/id1/naïve 笑/00 01.mp4")
    assert voxceleb2.find_clips(epath.Path(tmp_path), "dev") == ["id1/naïve 笑/00 01"]
    touch(tmp_path, f"dev/mp4/id1/b/{name}.mp4")
    with pytest.raises(
        ValueError, match=r"rename 'id1/b/.*\\.*': a name must be one line of UTF-8"
    ) as caught:
        voxceleb2.find_clips(epath.Path(tmp_path), "dev")
    assert len(str(caught.value).splitlines()) == 1


def test_sound_may_be_m4a_or_wav_or_absent(tmp_path):
    root = epath.Path(tmp_path)
    touch(tmp_path, "dev/aac/id1/a/1.m4a", "dev/aac/id1/a/1.wav", "dev/aac/id1/a/2.wav")
    assert voxceleb2.audio_file(root, "dev", "id1/a/1") == root / "dev/aac/id1/a/1.m4a"
    assert voxceleb2.audio_file(root, "dev", "id1/a/2") == root / "dev/aac/id1/a/2.wav"
    assert voxceleb2.audio_file(root, "dev", "id1/a/3") is None


def test_another_layout_is_an_error_that_names_the_place(tmp_path):
    with pytest.raises(FileNotFoundError, match="dev/mp4 is not a directory"):
        voxceleb2.find_clips(epath.Path(tmp_path), "dev")
    touch(tmp_path, "dev/mp4/00001.mp4")
    with pytest.raises(ValueError, match="holds no"):
        voxceleb2.find_clips(epath.Path(tmp_path), "dev")
