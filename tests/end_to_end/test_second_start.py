"""A second start in the directory of a run that trains is refused, and harms nothing."""

import json
import socket

import pytest

from tests.support import shrunk_recipe
from tests.support.corpus_fixtures import tree
from tests.support.instrumented_pretrain import pause_file
from tests.support.processes import start_module, wait_until
from tests.support.real_runs import lines_without_times
from tests.support.several_hosts import environment

pytestmark = pytest.mark.slow


def test_a_second_start_is_refused_and_the_first_goes_on_as_if_alone(compiled, tmp_path):
    data, run = shrunk_recipe.write_clips(tmp_path / "set"), tmp_path / "run"
    given = environment(compiled, 2)
    (tmp_path / "link").symlink_to("run")

    def start(name, *more, module="launch.pretrain", **changes):
        words = shrunk_recipe.arguments(data, name, steps=20, checkpoint__every=4, **changes)
        return start_module(module, *words, *more, env=given)

    first = start(run, "--pause_after=9", module="tests.support.instrumented_pretrain")
    paused_and_saved = (pause_file(run), run / "checkpoints/8")
    wait_until(lambda: all(path.exists() for path in paused_and_saved) or first.poll() is not None)
    (run / "checkpoints/12.partial/state").mkdir(parents=True)  # as if it was saving
    before = without_heartbeat(run)
    # The same command, one that would be refused anyway, and another name of the directory.
    for second in (start(run), start(run, model__encoder_dim=32), start(tmp_path / "link")):
        out, err = second.communicate()
        assert (second.returncode, out) == (1, "")
        holder = f"in use by process {first.pid} on host {socket.gethostname()}"
        assert f"is {holder}: wait for its end, or give another directory" in err.splitlines()[-1]
    assert without_heartbeat(run) == before
    assert (run / "checkpoints/12.partial").exists()
    first.kill()
    first.communicate()

    # The kernel has freed the directory; the same command goes on at once.
    assert json.loads((run / "in_use.json").read_text())["process"] == first.pid
    again = start(run)
    out, err = again.communicate()
    assert again.returncode == 0, err
    assert "going on    from step 8 of 20" in out
    assert [line["step"] for line in lines_without_times(run)] == list(range(1, 21))
    assert not (run / "in_use.json").exists()


def without_heartbeat(run):
    """The files of a run but the one that it writes every ten seconds."""
    return {name: content for name, content in tree(run).items() if name != "hosts/0.json"}
