import importlib

import pytest
from etils import epath
from fsspec.implementations.memory import MemoryFileSystem

from data_pipeline.common import atomic_files
from tests.support import corpus_fixtures

pytestmark = pytest.mark.filterwarnings(corpus_fixtures.PROTOBUF_IN_TFDS)


class Bucket(MemoryFileSystem):
    """An object store in memory."""

    protocol = ("gs", "gcs")
    store = {}  # noqa: RUF012  as fsspec declares it
    pseudo_dirs = [""]  # noqa: RUF012


@pytest.fixture
def bucket(monkeypatch):
    for name in Bucket.protocol:
        monkeypatch.setitem(importlib.import_module("fsspec.registry")._registry, name, Bucket)
    yield epath.Path("gs://bucket")
    Bucket.store.clear()


def test_a_file_appears_only_when_published(tmp_path):
    root = epath.Path(tmp_path)
    with atomic_files.staging(root) as directory:
        (directory / "part").write_bytes(b"whole")
        assert not (root / "sub/final").exists()
        atomic_files.publish(directory / "part", root / "sub/final")
        assert (root / "sub/final").read_bytes() == b"whole"
    assert not directory.exists()


def test_what_a_killed_process_left_is_cleared(tmp_path):
    (tmp_path / atomic_files.UNFINISHED / "abc").mkdir(parents=True)
    (tmp_path / "kept").write_text("")
    atomic_files.clear(epath.Path(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_text_replaces_text(tmp_path):
    root = epath.Path(tmp_path)
    for text in ("before", "naïve"):
        atomic_files.publish_text(text, root, "note.txt")
    assert (tmp_path / "note.txt").read_text(encoding="utf-8") == "naïve"


def test_a_file_is_replaced_whole(tmp_path):
    atomic_files.replace_text(tmp_path / "note.txt", "before")
    atomic_files.replace_text(tmp_path / "note.txt", "naïve")
    assert (tmp_path / "note.txt").read_text(encoding="utf-8") == "naïve"
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_an_error_while_writing_leaves_the_old_file(tmp_path):
    (tmp_path / "note.txt").write_text("before")

    def fail():
        with atomic_files.replacing(tmp_path / "note.txt") as partial:
            assert partial.name == "note.txt.partial"
            partial.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]
    assert (tmp_path / "note.txt").read_text() == "before"


def test_preparation_into_and_out_of_a_bucket_is_that_on_a_disk(tmp_path, bucket):
    corpus_fixtures.write_corpus(tmp_path / "in", 3)
    for file in (tmp_path / "in").rglob("*.m*"):
        (bucket / "in" / str(file.relative_to(tmp_path / "in"))).write_bytes(file.read_bytes())
    local = corpus_fixtures.prepare(tmp_path / "in", tmp_path / "out")
    remote = corpus_fixtures.prepare(bucket / "in", bucket / "out")
    assert remote == local
    stored = {name.removeprefix("gs://bucket/out/"): file.getvalue() for name, file in Bucket.store.items()}
    for name, content in corpus_fixtures.tree(tmp_path / "out").items():
        assert stored[name] == content, name


def test_an_incomplete_upload_is_an_error(tmp_path, bucket, monkeypatch):
    monkeypatch.setattr(type(bucket), "copy", lambda self, target, overwrite: target.write_bytes(b"par"))
    file = tmp_path / "file"
    file.write_bytes(b"whole")
    with pytest.raises(OSError, match="3 bytes after an upload of 5"):
        atomic_files.publish(file, bucket / "file")
