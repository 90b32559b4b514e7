"""The goodput of a real run that is killed, stopped and finished, against times measured outside of it."""

import time
from signal import SIGKILL, SIGTERM

import pytest
from etils import epath

from hicmae_jax.logs.goodput import NO_WORD, SPLIT
from hicmae_jax.logs.starts import FINISHED
from hicmae_jax.runs import status
from tests.chaos.runs import Run
from tests.support import shrunk_recipe

pytestmark = pytest.mark.slow

SECONDS_DOWN = 6.0
RESOLUTION = 2.0
"""Seconds by which two times may differ: those of the events are whole seconds."""


def test_the_split_agrees_with_a_clock_outside(tmp_path, compiled):
    data = shrunk_recipe.write_clips(tmp_path / "set")
    evaluations = {"evaluation__sets": (str(data),), "evaluation__every": 20}
    few = {"evaluation__clips": 8, "evaluation__batch": 8}
    run = Run(tmp_path / "run", data, compiled, steps=160, checkpoint__every=20, **evaluations, **few)
    # Begin of each process; a moment at which it was seen alive; and a moment at which it had ended.
    begun, seen, ended = [], [], []
    for pause_after, number, code in ((50, SIGKILL, -SIGKILL), (90, SIGTERM, 75), (None, None, 0)):
        begun.append(time.time())
        processes = run.start(pause_after=pause_after)
        seen.append(begun[-1])
        if number:
            run.wait_for_pause(processes)
            seen[-1] = time.time()
            processes[0].send_signal(number)
        (ending,) = run.finish(processes)
        ended.append(time.time())
        assert ending.code == code, ending.err
        time.sleep(SECONDS_DOWN if number else 0)

    found = status.read(epath.Path(run.directory))
    split, parts = found.goodput.split, found.goodput.parts
    assert (found.state, found.step, found.total_steps, found.goodput.measured) == (FINISHED, 160, 160, True)
    assert [part.end.split(" with ")[0] for part in parts] == [NO_WORD, "stopped by SIGTERM", FINISHED]
    for part, begin, alive, end in zip(parts, begun, seen, ended, strict=True):
        assert within(part.begun.timestamp(), begin, end)
        assert within(part.seconds - part.split["down"], alive - begin, end - begin)
    for part, alive, end, begin_again in zip(parts[:2], seen[:2], ended[:2], begun[1:], strict=True):
        # The next process counts from a moment after its begin, by as much as Python needs to start.
        assert within(part.split["down"], begin_again - end, begin_again - alive + RESOLUTION)
    assert within(found.goodput.seconds, begun[-1] - begun[0], ended[-1] - begun[0])
    assert sum(split.values()) == pytest.approx(found.goodput.seconds)
    assert all(split[kind] > 0 for kind in SPLIT if kind != "rest")
    # It was killed after step 50, perhaps while the checkpoint of step 40 was written.
    assert (parts[0].kept_steps, parts[0].redone_steps) in ((40, 10), (20, 30))
    assert [part.redone_steps for part in parts[1:]] == [0, 0]
    assert sum(part.kept_steps for part in parts) == 160


def within(seconds, least, most):
    return least - RESOLUTION <= seconds <= most + RESOLUTION
