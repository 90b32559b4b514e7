"""What a start writes into the events, also of one before it that was killed."""

import json

from etils import epath

from hicmae_jax.logs.events import Events
from hicmae_jax.runs.start_note import StartNote
from tests.support.bucket_server import served
from tests.support.made_up_run import files, spent, write


def noted(local, address=None):
    """The events that a start adds, without their times."""
    path = local / "events.jsonl"
    before = len(path.read_text().splitlines()) if path.exists() else 0
    StartNote(epath.Path(local), epath.Path(address or local)).write(Events(local), 100, "now")
    lines = map(json.loads, path.read_text().splitlines()[before:])
    return [{name: value for name, value in line.items() if name != "time"} for line in lines]


STARTING = {"event": "starting", "step": 100, "began": "now"}


def test_a_new_run_notes_its_start_only(tmp_path):
    assert noted(tmp_path) == [STARTING]


def test_of_a_killed_start_the_last_sign_is_noted(tmp_path):
    """The heartbeat, or the last line of the metrics, whichever is later."""
    write(tmp_path / "beat", files(lines=118, beats=[{"step": 120}]))
    write(tmp_path / "line", files(lines=118, beats=[{"step": 90}]))
    for name, step in (("beat", 120), ("line", 118)):
        killed = {"event": "interrupted", "step": step, "spent": spent(step)}
        assert noted(tmp_path / name) == [killed, STARTING]


def test_a_start_that_has_said_how_it_ended_needs_no_note(tmp_path):
    write(tmp_path, files({"event": "stopped", "line": "x", "step": 120, "spent": spent(120)}))
    assert noted(tmp_path) == [STARTING]


def test_a_damaged_log_is_left_to_those_who_open_it(tmp_path):
    write(tmp_path, files(beats=[]) | {"metrics.jsonl": b"{\n{}\n"})
    assert noted(tmp_path) == [{"event": "interrupted", "step": 0}, STARTING]


def test_the_heartbeat_of_a_run_in_a_bucket_is_read_there(tmp_path):
    content = files(lines=118, beats=[{"step": 120}])
    beat = content.pop("hosts/0.json")
    write(tmp_path, content)
    with served() as server:
        server.put("bucket/run/hosts/0.json", beat)
        found = noted(tmp_path, "gs://bucket/run")
    assert found[0] == {"event": "interrupted", "step": 120, "spent": spent(120)}
