"""A seal reveals every change of the files that it lists."""

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from hicmae_jax.checkpoints.checksums import PARTIAL, SEAL, check, seal

FILES = {
    "empty": b"",
    "record.json": b'{"seed": 3}',
    "state/large": bytes(range(256)) * 8192,
    "state/d/deep": b"\x00" * 100,
}


@pytest.fixture
def directory(tmp_path):
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_a_sealed_directory_is_found_whole(directory):
    seal(directory)
    assert check(directory) is None
    assert set(json.loads((directory / SEAL).read_text())["files"]) == set(FILES)
    assert sorted(path.name for path in directory.iterdir()) == [SEAL, "empty", "record.json", "state"]


def test_a_moved_directory_with_added_files_is_whole(directory, tmp_path_factory):
    seal(directory)
    moved = directory.rename(tmp_path_factory.mktemp("elsewhere") / "7")
    (moved / "notes.txt").write_text("mine")
    assert check(moved) is None


@pytest.mark.parametrize("name", [name for name, content in FILES.items() if content])
@pytest.mark.parametrize("place", [0, -1])
def test_a_flipped_bit_is_found_and_its_file_named(directory, name, place):
    seal(directory)
    flip(directory / name, place)
    assert check(directory) == f"{name} has another content than was saved"


def test_a_truncated_file_is_found(directory):
    seal(directory)
    os.truncate(directory / "state/large", 4096)
    assert check(directory) == "state/large has 4,096 bytes instead of 2,097,152"


def test_a_missing_file_is_found(directory):
    seal(directory)
    (directory / "empty").unlink()
    assert check(directory) == "empty is missing"


def test_a_directory_without_a_seal_is_found(directory):
    assert check(directory) == "checksums.json is missing: it was never finished, or copied by half"
    assert check(directory / "nowhere") == "there is no such directory"


def test_every_flipped_bit_in_the_seal_is_found(directory):
    seal(directory)
    whole = (directory / SEAL).read_bytes()
    for place in range(len(whole)):
        flip(directory / SEAL, place)
        assert check(directory), place
        (directory / SEAL).write_bytes(whole)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"files": 3}', b'{"files": {"a": {}}}', b"\xff"])
def test_a_seal_with_invalid_content_is_damaged(directory, content):
    (directory / SEAL).write_bytes(content)
    assert check(directory) == "checksums.json is damaged"


def test_a_file_that_the_disk_cannot_read_is_named(directory, monkeypatch):
    seal(directory)

    def fails(*arguments):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("hashlib.file_digest", fails)
    assert check(directory) == "empty cannot be read: Input/output error"


def test_a_full_disk_leaves_no_seal(directory, monkeypatch):
    def fails(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="No space left on device"):
        seal(directory)
    assert not (directory / SEAL).exists()


def test_every_file_and_directory_is_flushed_before_the_seal_is_written(directory, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda *names: (done.append("seal"), replace(*names)))
    seal(directory)
    before, after = done[: done.index("seal")], done[done.index("seal") + 1 :]
    everything = ["", *FILES, "state", "state/d", PARTIAL]
    assert sorted(before) == sorted(str(directory / name) for name in everything)
    assert after == [str(directory)]


KILLED = textwrap.dedent("""
    import os, signal, sys
    from hicmae_jax.checkpoints.checksums import seal

    os.rename = os.replace = lambda *names: os.kill(os.getpid(), signal.SIGKILL)
    seal(sys.argv[1])
""")


def test_a_process_killed_while_it_seals_leaves_no_seal(directory):
    process = subprocess.run([sys.executable, "-c", KILLED, str(directory)], check=False)
    assert process.returncode == -signal.SIGKILL
    assert check(directory) == "checksums.json is missing: it was never finished, or copied by half"
    seal(directory)
    assert check(directory) is None
