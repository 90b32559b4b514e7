"""The length of a file is known also where its owner has no name."""

import os
import pwd

import pytest
from etils import epath

from data_pipeline.common.paths import file_length


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
