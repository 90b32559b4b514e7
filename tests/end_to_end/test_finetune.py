"""All folds by one command: stopped by signals, it ends with the scores of a run never stopped."""

import json
from signal import SIGTERM

import numpy as np
import pytest

from hicmae_jax.supervision.signals import EXIT_CODES
from tests.support.finetune_fixtures import MODEL, write_labelled_set
from tests.support.processes import start_module, wait_until
from tests.support.real_runs import count_lines, lines_without_times
from tests.support.several_hosts import environment, finish, start_hosts

pytestmark = pytest.mark.slow

STEPS = 60


def arguments(data, directory, folds="all", **changes):
    model = ("image_size", "frames", "audio_frames", "encoder_dim", "encoder_heads", "encoder_depth")
    settings = {f"model.{name}": getattr(MODEL, name) for name in model}
    settings |= {"model.fusion_depth": 1, "execution.remat_encoder": "none", "data.stride": 2}
    settings |= {"data.sets": data, "data.threads": 1, "epochs": STEPS // 2, "checkpoint.every": 7}
    flags = [f"--config.{name}={value}" for name, value in (settings | changes).items()]
    return ["--config=finetune:made_up,runlocal", *flags, f"--run={directory}", f"--folds={folds}"]


@pytest.fixture
def data(tmp_path):
    return write_labelled_set(tmp_path / "set", 48)


@pytest.fixture
def start(data, compiled):
    """Directory → a process that fine-tunes and scores all folds."""

    def started(directory, **changes):
        command = arguments(data, directory, **changes)
        return start_module("launch.finetune", *command, env=environment(compiled, 2))

    return started


def end(process, code=0):
    out, err = process.communicate()
    assert process.returncode == code, err
    return out, err


def stop_in(fold, process):
    """Stop a run when the fold has made some steps."""
    wait_until(lambda: count_lines(fold) >= 9 or process.poll() is not None)
    process.send_signal(SIGTERM)
    _, err = end(process, EXIT_CODES[SIGTERM])
    assert "finetune: stopped by SIGTERM with step " in err.splitlines()[-1]


def test_all_folds_stopped_and_resumed_have_the_scores_of_a_run_never_stopped(start, tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    out, _ = end(start(whole))
    assert "### made_up: audio-visual, mu from scratch" in out
    for fold in ("fold-1", "fold-2"):
        stop_in(stopped / fold, start(stopped))
        assert not (stopped / fold / "scores.json").exists()
    out, _ = end(start(stopped))
    assert "finished    already" in out
    assert "going on    from step " in out

    assert (stopped / "table.md").read_text() == (whole / "table.md").read_text()
    for fold in ("fold-1", "fold-2"):
        ours, theirs = (json.loads((root / fold / "scores.json").read_text()) for root in (stopped, whole))
        assert ours == theirs
        assert lines_without_times(stopped / fold) == lines_without_times(whole / fold)
        for epoch in ("last", "best"):
            with np.load(stopped / fold / f"{epoch}.npz") as a, np.load(whole / fold / f"{epoch}.npz") as b:
                for name in a:
                    np.testing.assert_array_equal(a[name], b[name])

    # Scores that are lost are computed again, without training.
    (whole / "fold-2" / "scores.json").unlink()
    out, _ = end(start(whole))
    assert out.count("finished    already") == 2
    assert (stopped / "table.md").read_text() == (whole / "table.md").read_text()

    # Other settings are one line before any work.
    for changes, line in (
        ({"batch": 4}, "the folds of a directory must be alike: batch is 8 in fold "),
        ({"data.selection": "published"}, "the folds of a directory must be alike: data.selection is"),
    ):
        out, err = end(start(stopped, **changes), 1)
        assert line in err
        assert (out, err.count("\n")) == ("", 1)


def test_two_hosts_give_the_scores_of_one(data, start, compiled, tmp_path):
    # With the recipe's epsilon, Adam would turn the rounding errors of tiny gradients into large updates.
    changes = {"epochs": 3, "optimizer.epsilon": 1e-3}
    end(start(tmp_path / "one", folds=1, **changes))
    words = arguments(data, tmp_path / "two", folds=1, **changes)
    for code, out, err in finish(start_hosts([words, words], compiled, 1, program="launch.finetune")):
        assert code == 0, err
        assert ("### made_up" in out) == ("wrote     " in out)
    for epoch in ("last", "best"):
        with (
            np.load(tmp_path / f"one/fold-1/{epoch}.npz") as a,
            np.load(tmp_path / f"two/fold-1/{epoch}.npz") as b,
        ):
            np.testing.assert_allclose(a["scores"], b["scores"], atol=1e-4)
            np.testing.assert_array_equal(a["name"], b["name"])

    # Hosts that were given other folds would wait for each other without end.
    other = arguments(data, tmp_path / "two", folds="1,2", **changes)
    for code, _, err in finish(start_hosts([words, other], compiled, 1, program="launch.finetune")):
        assert code == 1
        assert "the hosts are not alike: folds.folds is ['1'] on host 0, ['1', '2'] on host 1" in err
