"""Clips that cannot be read are listed once each, at the cost of the new ones, also after kills."""

import errno
import json
import os

import pytest

from hicmae_jax.logs.events import Events
from hicmae_jax.runs import broken_clips
from hicmae_jax.runs.broken_clips import BROKEN, note_faults


class Stream:
    """A stream that finds some broken clips in each batch; a worker dies before the second batch."""

    def __init__(self, *batches):
        self.batches, self.broken = batches, {}
        self.step = self.restarts = 0

    def __iter__(self):
        for number, lines in enumerate(self.batches):
            self.broken |= {len(self.broken) + index: line for index, line in enumerate(lines)}
            self.step, self.restarts = number, min(number, 1)
            yield {"example": number}


def note(directory, *batches):
    return list(note_faults(Stream(*batches), directory / BROKEN, Events(directory)))


def test_data_faults_are_logged_and_the_list_survives_an_interruption(tmp_path):
    listed = tmp_path / BROKEN
    assert len(note(tmp_path, ["c: truncated"], [], ["a: empty", "a: empty"])) == 3
    assert listed.read_text() == "c: truncated\na: empty\n"
    note(tmp_path, ["a: empty"])
    note(tmp_path, ["b: gone", "a: empty", "d: gone"])
    assert listed.read_text() == "c: truncated\na: empty\nb: gone\nd: gone\n"
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [(event["event"], event["step"], event["times"]) for event in events] == [
        ("data workers started again", 1, 1)
    ]


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_line_that_a_kill_has_cut_is_written_whole_and_once(tmp_path, cut):
    whole = "c: truncated\na: empty\n"
    (tmp_path / BROKEN).write_text(whole[:-cut])
    note(tmp_path, ["a: empty"], ["b: gone"], ["c: truncated"])
    assert (tmp_path / BROKEN).read_text() == whole + "b: gone\n"


def test_a_list_cut_within_its_first_line_begins_again(tmp_path):
    (tmp_path / BROKEN).write_text("c: trunc")
    note(tmp_path, [])
    assert (tmp_path / BROKEN).read_text() == ""
    note(tmp_path, ["c: truncated"])
    assert (tmp_path / BROKEN).read_text() == "c: truncated\n"


@pytest.mark.parametrize("name", ["クリップ", "line\u2028separator", "not\udcffUTF-8", "form\x0cfeed"])
def test_names_of_all_characters_are_listed_once(tmp_path, name):
    for _ in range(2):
        note(tmp_path, [f"{name}: gone"], ["b: gone"])
    lines = (tmp_path / BROKEN).read_bytes().split(b"\n")
    assert lines == [f"{name}: gone".encode(errors="backslashreplace"), b"b: gone", b""]


def test_a_batch_opens_the_file_only_for_new_lines_and_writes_only_those(tmp_path, monkeypatch):
    written = []

    def counting_open(path, mode):
        assert mode == "ab"  # never shortened or replaced
        written.append(os.path.getsize(path) if os.path.exists(path) else 0)
        return open(path, mode)

    monkeypatch.setattr(broken_clips, "open", counting_open, raising=False)
    many = [f"clip {number}: gone" for number in range(5_000)]
    note(tmp_path, many, [], [], ["one more: gone"], many[:10], [])
    assert written == [0, sum(len(line) + 1 for line in many)]
    assert (tmp_path / BROKEN).read_text().splitlines() == [*many, "one more: gone"]
    assert note(tmp_path, many[:5])
    assert len(written) == 2


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def fail(path, mode):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(broken_clips, "open", fail, raising=False)
    with pytest.raises(OSError, match=r"broken_clips\.txt: a clip was not listed: No space left on device; "):
        note(tmp_path, ["a: gone"])
