"""The log holds every number of a run once, even if the run was killed and resumed."""

import json
import math
import os
import sys
import types

import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from hicmae_jax.logs.events import Events
from hicmae_jax.logs.metrics import MetricsLog, read_metrics


def events_in(run):
    """(name, step, value) of each scalar, and the step of each session's start, from TensorBoard's files."""
    found = []
    for path in sorted((run / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:
            # A record is its length in eight bytes, a checksum, its content, and a checksum.
            length = int.from_bytes(data[:8], "little")
            event = event_pb2.Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
            if event.HasField("session_log"):
                found.append(("start", event.step))
    return found


def text_of(run):
    return (run / "metrics.jsonl").read_text()


def write_steps(run, steps, **options):
    with MetricsLog(run, **options) as log:
        for step in steps:
            log.write(step, {"loss/total": 1 / step, "levels": [step, 0.5]})


def test_numbers_are_read_back_unchanged(tmp_path):
    loss = np.float32(0.1)
    with MetricsLog(tmp_path) as log:
        log.write(1, {"loss": loss, "clips": 64, "levels": np.array([0.1, 0.2])})
        assert read_metrics(tmp_path) == [{"step": 1, "loss": float(loss), "clips": 64, "levels": [0.1, 0.2]}]


def test_numbers_that_json_lacks_are_strings_in_the_file_and_numbers_again_when_read(tmp_path):
    with MetricsLog(tmp_path) as log:
        log.write(1, {"loss": math.nan, "levels": [math.inf, -math.inf, 1.0]})

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    line = json.loads(text_of(tmp_path), parse_constant=refuse)
    assert line == {"step": 1, "loss": "NaN", "levels": ["Infinity", "-Infinity", 1.0]}
    [read] = read_metrics(tmp_path)
    assert math.isnan(read["loss"])
    assert read["levels"] == [math.inf, -math.inf, 1.0]


@pytest.mark.parametrize("torn", ["", '{"step": 5, "loss/to', '{"step": 4}', "\0\0\0"])
def test_a_killed_and_resumed_run_has_the_log_of_an_uninterrupted_one(tmp_path, torn):
    write_steps(tmp_path / "whole", range(1, 8))
    write_steps(tmp_path / "killed", range(1, 5))
    with (tmp_path / "killed/metrics.jsonl").open("a") as file:
        file.write(torn)
    write_steps(tmp_path / "killed", range(3, 8), resume_step=2)
    assert text_of(tmp_path / "killed") == text_of(tmp_path / "whole")
    assert [path.name for path in (tmp_path / "killed").iterdir()] == ["metrics.jsonl"]


def test_a_run_killed_before_its_first_checkpoint_begins_its_log_again(tmp_path):
    write_steps(tmp_path, range(1, 4))
    write_steps(tmp_path, range(1, 3))
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2]


def test_a_line_that_is_being_written_is_not_read_yet(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 2.0}]


def test_a_damaged_log_is_refused_by_line_and_not_changed(tmp_path):
    damaged = '{"step": 1}\nnonsense\n{"step": 3}\n'
    (tmp_path / "metrics.jsonl").write_text(damaged)
    for attempt in (lambda: read_metrics(tmp_path), lambda: MetricsLog(tmp_path, resume_step=1)):
        with pytest.raises(ValueError, match=r"metrics.jsonl: line 2 is not a line of metrics: 'nonsense'"):
            attempt()
    assert text_of(tmp_path) == damaged


def test_an_error_of_writing_names_the_file_and_the_remedy(tmp_path):
    remedy = "No space left on device; mend that, and give the same command to go on from the last checkpoint"
    log = MetricsLog(tmp_path)
    with open("/dev/full", "w") as full:
        os.dup2(full.fileno(), log._file.fileno())
    with pytest.raises(OSError, match="was not logged") as refused:
        log.write(1234, {"loss": 1.0})
    assert str(refused.value) == f"{tmp_path}/metrics.jsonl: step 1,234 was not logged: {remedy}"
    log.close()
    (tmp_path / "events.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match="was not written down") as refused:
        Events(tmp_path).note("slow", "step 2 took 1 min")
    assert str(refused.value) == f"{tmp_path}/events.jsonl: 'slow' was not written down: {remedy}"


def test_a_directory_without_a_log_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="not the directory of a run"):
        read_metrics(tmp_path)


def test_the_log_of_a_run_in_a_bucket_is_read(bucket):
    bucket.put("shop/run/metrics.jsonl", b'{"step": 1, "loss": "NaN"}\n{"step": 2')
    (line,) = read_metrics("gs://shop/run")
    assert line["step"] == 1
    with pytest.raises(FileNotFoundError, match=r"gs://shop/none/metrics.jsonl: no"):
        read_metrics("gs://shop/none")


@pytest.mark.parametrize(
    "values", [{"step": 1}, {"loss": "high"}, {"loss": np.zeros((2, 2))}, {"loss": None}], ids=str
)
def test_a_value_that_is_no_metric_is_refused_and_not_written(tmp_path, values):
    with MetricsLog(tmp_path) as log, pytest.raises(ValueError, match=next(iter(values))):
        log.write(1, values)
    assert text_of(tmp_path) == ""


def test_only_the_first_process_writes(tmp_path):
    with MetricsLog(tmp_path / "run", tensorboard=True, wandb_project="p", active=False) as log:
        log.write(1, {"loss": 1.0})
    assert not (tmp_path / "run").exists()


def test_tensorboard_gets_every_scalar_and_drops_repeated_steps(tmp_path):
    write_steps(tmp_path, [1, 2], tensorboard=True)
    assert events_in(tmp_path) == [
        ("start", 0),
        *[("loss/total", 1, 1.0), ("levels/0", 1, 1.0), ("levels/1", 1, 0.5)],
        *[("loss/total", 2, 0.5), ("levels/0", 2, 2.0), ("levels/1", 2, 0.5)],
    ]
    write_steps(tmp_path, [2], tensorboard=True, resume_step=1)
    assert ("start", 2) in events_in(tmp_path)


class FakeWandb(types.ModuleType):
    """Replaces the real package, which needs an account, and keeps what is logged."""

    def __init__(self):
        super().__init__("wandb")
        self.started, self.logged, self.finished = [], [], 0

    def init(self, **options):
        self.started.append(options)
        return self

    def define_metric(self, name, step_metric=None):
        pass

    def log(self, values):
        self.logged.append(values)

    def finish(self):
        self.finished += 1


def test_wandb_gets_every_scalar_and_a_resumed_run_keeps_its_id(tmp_path, monkeypatch):
    wandb = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    write_steps(tmp_path, [1, 2], wandb_project="faces", config={"seed": 3})
    write_steps(tmp_path, [2], wandb_project="faces", config={"seed": 3}, resume_step=1)
    assert [options["project"] for options in wandb.started] == ["faces", "faces"]
    assert wandb.started[0] == wandb.started[1]
    assert wandb.started[0]["config"] == {"seed": 3}
    assert wandb.logged[0] == {"step": 1, "loss/total": 1.0, "levels/0": 1, "levels/1": 0.5}
    assert [values["step"] for values in wandb.logged] == [1, 2, 2]
    assert wandb.finished == 2


@pytest.mark.parametrize(
    ("module", "options", "extra"),
    [
        ("tensorboardX", {"tensorboard": True}, "tensorboard"),
        ("wandb", {"wandb_project": "faces"}, "wandb"),
    ],
)
def test_a_missing_extra_is_named_before_anything_is_removed(tmp_path, monkeypatch, module, options, extra):
    write_steps(tmp_path, [1, 2])
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(RuntimeError, match=rf"needs {module}: pip install 'hicmae_jax\[{extra}\]'$"):
        MetricsLog(tmp_path, resume_step=1, **options)
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2]
