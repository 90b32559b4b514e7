"""Objects in a bucket: what comes back, what is tried again, and what is refused in one line."""

import sys

import pytest

from data_pipeline.common import anywhere, buckets
from data_pipeline.common.buckets import Bucket, BucketError
from hicmae_jax.checkpoints import reader
from tests.support.bucket_server import Faults

URL = "gs://shop/run"


@pytest.fixture
def objects(bucket):
    return Bucket(URL)


class Failing:
    """A file system whose requests fail with these errors, and then succeed."""

    def __init__(self, *errors):
        self.errors = list(errors)
        self.asked = 0

    def cat_file(self, path):
        self.asked += 1
        if self.errors:
            raise self.errors.pop(0)
        return path.encode()


@pytest.fixture
def failing(monkeypatch, bucket):
    """Makes a bucket on such a file system; time passes only between two tries."""
    now = [0.0]
    monkeypatch.setattr(buckets.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(buckets.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))

    def make(*errors):
        found = Bucket(URL, 600.0)
        found._files = Failing(*errors)
        return found

    return make


CONTENTS = [b"", b"\r", b"\n", b"\r\n", b"\r\n--==0==--\r\n", bytes(range(256))]


@pytest.mark.parametrize("content", CONTENTS, ids=range(len(CONTENTS)))
def test_what_is_written_is_read(objects, content):
    objects.write("a/one", content)
    assert objects.read("a/one") == content
    assert objects.size("a/one") == len(content)
    assert objects.list() == {"a/one": len(content)}


def test_only_whole_names_are_found(objects):
    objects.write("a/one", b"1")
    objects.write("ab", b"12")
    assert objects.list("a") == {"a/one": 1}
    assert objects.list("b") == {}
    assert objects.size("a") is None
    with pytest.raises(FileNotFoundError):
        objects.read("a")


def test_an_object_is_created_once(objects):
    assert objects.create("lease", b"first")
    assert not objects.create("lease", b"second")
    assert objects.read("lease") == b"first"


def test_objects_are_copied_and_deleted(objects):
    objects.write("a/one", b"1")
    objects.copy({"a/one": "b/two"})
    objects.delete(["a/one", "never there"])
    assert objects.list() == {"b/two": 1}
    with pytest.raises(FileNotFoundError):
        objects.copy({"a/one": "c"})


def test_files_go_up_and_down_while_requests_fail(bucket, objects, tmp_path):
    content = {f"part {i}": bytes([i]) * (1_000 + 700_000 * i) for i in range(9)}
    sent = {name: tmp_path / name for name in content}
    for name, path in sent.items():
        path.write_bytes(content[name])
    bucket.faults = Faults(unavailable=0.1, cut=0.1, seed=2)
    objects.upload(sent)
    fetched = {name: tmp_path / "back" / name for name in content}
    objects.download(fetched)
    assert {name: path.read_bytes() for name, path in fetched.items()} == content
    assert bucket.met["503"]
    assert bucket.met["cut"]


def test_a_missing_object_is_an_error_unless_it_may_be_absent(objects, tmp_path):
    with pytest.raises(FileNotFoundError):
        objects.download({"none": tmp_path / "none"})
    objects.download({"none": tmp_path / "none"}, absent_too=True)
    assert not (tmp_path / "none").exists()


def test_an_old_listing_hides_an_object_but_not_its_content(bucket, objects):
    bucket.faults = Faults(stale=1e6)
    objects.write("new", b"1")
    assert objects.list() == {}
    assert (objects.size("new"), objects.read("new")) == (1, b"1")


def test_a_request_is_tried_again_until_it_succeeds(failing):
    found = failing(OSError("reset"), RuntimeError("busy"), AssertionError("size mismatch"))
    assert found.read("x") == f"{URL}/x".encode()
    assert found._files.asked == 4


def test_patience_ends_with_one_line(failing, capsys):
    found = failing(*[OSError("try\nagain")] * 1_000)
    with pytest.raises(BucketError, match=r"^gs://shop/run/x cannot be read: OSError: try again$"):
        found.read("x")
    assert 30 < found._files.asked < 60
    assert capsys.readouterr().err.count("trying again: gs://shop/run/x is not read: OSError") == 1


def coded(code):
    """An error as gcsfs raises it."""
    error = RuntimeError("no rights")
    error.code = code
    return error


def test_a_number_in_a_path_is_no_refusal(failing):
    found = failing(OSError("gs://shop/run/checkpoints/4030/state: reset"), coded(503))
    assert found.read("x") == f"{URL}/x".encode()


@pytest.mark.parametrize("error", [PermissionError("no"), OSError("Forbidden: b"), coded(401)])
def test_a_refusal_is_not_tried_again(failing, error):
    found = failing(error)
    with pytest.raises(BucketError):
        found.read("x")
    assert found._files.asked == 1


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(ImportError, match=r"^gs://b needs a package .*: pip install 'hicmae_jax\[gcs\]'$"):
        Bucket("gs://b")


def test_an_unknown_kind_of_bucket_is_refused():
    with pytest.raises(ValueError, match="nowhere://b: no bucket of this kind is known; give gs://, s3://"):
        Bucket("nowhere://b")
    with pytest.raises(ValueError, match="nowhere://b: no bucket of this kind is known"):
        reader.absolute("nowhere://b")


def test_a_file_has_no_names_inside_and_a_path_below_one_is_missing(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        anywhere.names(tmp_path / "file")
    assert anywhere.names(tmp_path / "file/run") == []


@pytest.mark.parametrize("of_bucket", [False, True], ids=["disk", "bucket"])
def test_small_files_are_the_same_anywhere(bucket, tmp_path, of_bucket):
    root = "gs://shop/files" if of_bucket else str(tmp_path / "files")
    assert anywhere.names(root) == []
    anywhere.write(f"{root}/a/one", b"1")
    anywhere.write(f"{root}/two", b"2")
    anywhere.write(f"{root}/two", b"22")
    assert anywhere.names(root) == ["a", "two"]
    assert anywhere.read(f"{root}/two") == b"22"
    anywhere.remove(f"{root}/two")
    anywhere.remove(f"{root}/two")
    with pytest.raises(FileNotFoundError):
        anywhere.read(f"{root}/two")
