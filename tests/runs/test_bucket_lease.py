"""A directory in a bucket belongs to one process at a time, and to nobody once that has ended."""

import json
import os
import subprocess
import sys
import threading

import pytest

from hicmae_jax.runs import alive, bucket_lease
from hicmae_jax.runs.bucket_lease import BucketLease
from hicmae_jax.runs.in_use import FILE, InUseError
from tests.support.processes import HANG

RUN = "gs://shop/runs/b"
OBJECT = f"shop/runs/b/{FILE}"
# Holds the directory until stdin ends, or until it is killed.
HOLDER = f"""
import sys
from hicmae_jax.runs.bucket_lease import BucketLease
with BucketLease({RUN!r}):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    for name, seconds in (("RENEWED_EVERY", 0.05), ("SETTLES_AFTER", 0.05), ("LOOKS_EVERY", 0.05)):
        monkeypatch.setattr(bucket_lease, name, seconds)
    monkeypatch.setattr(bucket_lease, "EXPIRES_AFTER", 0.5)


@pytest.fixture
def holder(bucket):
    """Another process that holds the directory."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", HOLDER]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def left_by(server, **about):
    """Leave the lease of a process of another machine."""
    lease = {"process": 4711, "host": "node3", "token": "0f", "identity": "", "renewals": 0} | about
    server.put(OBJECT, json.dumps(lease).encode())


def content(server):
    return json.loads(server.objects[OBJECT].data)


def test_a_lease_names_its_holder_is_renewed_and_goes_with_it(bucket):
    with BucketLease(RUN) as lease:
        assert content(bucket)["process"] == os.getpid()
        lease.check()
        seen = threading.Event()
        while content(bucket)["renewals"] < 2:
            assert not seen.wait(0.02)
    assert OBJECT not in bucket.objects


def test_a_second_process_is_refused(bucket, holder):
    before = content(bucket)
    with pytest.raises(InUseError, match=rf"^{RUN} is in use by process {holder.pid} on host .+: wait for"):
        BucketLease(RUN).__enter__()
    assert content(bucket)["token"] == before["token"]


def test_a_holder_that_was_killed_on_this_machine_is_not_waited_for(bucket, holder, monkeypatch):
    holder.kill()
    holder.wait(HANG)
    assert OBJECT in bucket.objects
    monkeypatch.setattr(bucket_lease, "EXPIRES_AFTER", 1e6)
    with BucketLease(RUN):
        assert content(bucket)["process"] == os.getpid()


def test_the_lease_of_another_machine_is_taken_over_when_it_has_expired(bucket, capsys):
    left_by(bucket)
    with BucketLease(RUN):
        assert content(bucket)["process"] == os.getpid()
    line = f"{RUN} was left as if in use by process 4711 on node3"
    assert line.replace(" on ", " on host ") in capsys.readouterr().err


def test_a_lease_that_cannot_be_read_is_waited_for_too(bucket, capsys):
    bucket.put(OBJECT, b"{")
    with BucketLease(RUN):
        assert content(bucket)["process"] == os.getpid()
    assert "process unknown on host unknown" in capsys.readouterr().err


def test_a_holder_that_loses_its_lease_is_told_and_keeps_its_hands_off(bucket):
    told, lines = threading.Event(), []

    def lost(line):
        lines.append(line)
        told.set()

    with BucketLease(RUN, lost) as lease:
        left_by(bucket, token="ff")
        assert told.wait(HANG)
        with pytest.raises(InUseError, match="was taken over by process 4711 on host node3"):
            lease.check()
    assert lines[0].startswith(
        f"{RUN} was taken over by process 4711 on host node3, because this process was"
    )
    assert content(bucket)["token"] == "ff"


def test_a_lost_answer_to_the_first_write_is_no_other_holder(bucket, monkeypatch):
    create = bucket_lease.Bucket.create
    monkeypatch.setattr(bucket_lease.Bucket, "create", lambda *given: create(*given) and False)
    with BucketLease(RUN):
        assert content(bucket)["process"] == os.getpid()


def test_a_process_is_known_by_more_than_its_number(bucket):
    mine = alive.identity()
    assert alive.is_alive(mine) is True
    assert alive.is_alive(f"{mine}0") is False  # another start under the same number
    assert alive.is_alive(mine.replace("/", "x/", 1)) is None  # on another machine
    for text in ("", "a", "a/b/c/d", "/".join([*mine.split("/")[:2], "x", "1"])):
        assert alive.is_alive(text) is None
