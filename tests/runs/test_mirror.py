"""The files of a run in a bucket: what is sent, what is fetched, and what stays if nothing can be sent."""

import threading

import pytest
from etils import epath

from hicmae_jax.runs import mirror
from hicmae_jax.runs.mirror import Mirror, files_of
from tests.support.bucket_server import Faults
from tests.support.processes import wait_until

RUN = "gs://shop/runs/b"


@pytest.fixture
def files(bucket):
    found = Mirror(RUN)
    yield found
    found.close()
    assert not found.directory.exists()


def test_what_has_changed_is_sent_and_nothing_else(bucket, files):
    (files.directory / "pictures").mkdir()
    (files.directory / "pictures/one.png").write_bytes(b"1")
    (files.directory / "metrics.jsonl").write_text("a\n")
    (files.directory / "config.json.partial").write_text("{")
    files.send()
    assert bucket.under(RUN) == {"pictures/one.png": b"1", "metrics.jsonl": b"a\n"}
    bucket.remove("shop/runs/b/pictures/one.png")
    with (files.directory / "metrics.jsonl").open("a") as file:
        file.write("b\n")
    files.send()
    assert bucket.under(RUN) == {"metrics.jsonl": b"a\nb\n"}


def test_a_thread_sends_while_the_run_goes_on(bucket, files, monkeypatch):
    monkeypatch.setattr(mirror, "SENT_EVERY", 0.01)
    with files:
        (files.directory / "events.jsonl").write_text("a\n")
        wait_until(lambda: bucket.under(RUN) == {"events.jsonl": b"a\n"})
        (files.directory / "events.jsonl").write_text("a\nb\n")
    assert bucket.under(RUN) == {"events.jsonl": b"a\nb\n"}


def test_sending_takes_a_bounded_share_of_the_time(bucket, files, monkeypatch):
    monkeypatch.setattr(mirror, "SENT_EVERY", 0.01)
    pauses = []

    class Stopping(threading.Event):
        def wait(self, seconds):
            pauses.append(seconds)
            return len(pauses) > 1

    files._stopping = Stopping()
    bucket.faults = Faults(slow=1.0, seconds=0.1)
    (files.directory / "metrics.jsonl").write_text("a\n")
    files._send_until_stopped()
    assert pauses[1] > mirror.WAITS * 0.1


def test_what_a_run_continues_is_fetched_and_not_sent_again(bucket, files):
    bucket.put("shop/runs/b/metrics.jsonl", b"a\n")
    for name in ("checkpoints/1/record.json", "in_use.json", "hosts/0.json", "pictures/one.png"):
        bucket.put(f"shop/runs/b/{name}", b"x")
    files.fetch()
    assert [path.name for path in files.directory.iterdir()] == ["metrics.jsonl"]
    before = bucket.requests
    files.send()
    assert bucket.requests == before


def test_an_old_listing_does_not_begin_the_log_again(bucket, files):
    bucket.faults = Faults(stale=1e6)
    bucket.put("shop/runs/b/metrics.jsonl", b"a\n")
    files.fetch(["metrics.jsonl", "events.jsonl"])
    assert (files.directory / "metrics.jsonl").read_text() == "a\n"
    assert not (files.directory / "events.jsonl").exists()


def test_files_that_cannot_be_sent_stay_on_the_disk(bucket, capsys, monkeypatch):
    def refuse(names):
        raise OSError("gs://shop: no answer")

    files = Mirror(RUN)
    with files:
        (files.directory / "metrics.jsonl").write_text("a\n")
        monkeypatch.setattr(files._bucket, "upload", refuse)
    files.close()
    assert (files.directory / "metrics.jsonl").read_text() == "a\n"
    assert capsys.readouterr().err == (
        f"gs://shop: no answer; the last files of the run are in {files.directory}\n"
    )


def test_the_files_of_a_directory_are_on_a_disk_wherever_it_lies(bucket, tmp_path):
    with files_of(epath.Path(tmp_path)) as here:
        assert here == tmp_path
    bucket.put("shop/runs/b/fold-1/scores.json", b"{}")
    with files_of(epath.Path(RUN)) as here:
        assert (here / "fold-1/scores.json").read_text() == "{}"
        (here / "table.md").write_text("table")
    assert bucket.under(RUN) == {"fold-1/scores.json": b"{}", "table.md": b"table"}
    assert not here.exists()
