"""The length of a file is known also where its owner has no name; what is no file is known."""

import os
import pwd

import pytest
from etils import epath

from data_pipeline.common.paths import file_length, may_be_file


def test_the_owner_needs_no_name(tmp_path, monkeypatch):
    file = epath.Path(tmp_path / "five")
    file.write_bytes(b"12345")
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: {}[uid])
    with pytest.raises(KeyError):
        file.stat()
    assert file_length(file) == 5


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_neither_owner_nor_group_needs_a_name(tmp_path):
    file = epath.Path(tmp_path / "five")
    file.write_bytes(b"12345")
    os.chown(file, 54321, 54321)
    assert file_length(file) == 5


def test_a_missing_file_has_no_length(tmp_path):
    with pytest.raises(FileNotFoundError):
        file_length(epath.Path(tmp_path / "none"))


def test_what_is_no_file_is_known(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link to a pipe").symlink_to("pipe")
    for name in ("file", "link", "missing"):
        assert may_be_file(epath.Path(tmp_path / name))
    assert may_be_file(epath.Path("gs://bucket/file"))
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "link to a pipe", "/dev/zero"):
        assert not may_be_file(epath.Path(path))
