"""Runs on several sets: what they print and log of each set, also when they resume on other hosts."""

import shutil

import jax
import numpy as np
import pytest

from data_pipeline.reading.pipeline import Pipeline
from hicmae_jax.logs.metrics import read_metrics
from hicmae_jax.runs import pretrain
from tests.support import several_hosts, shrunk_recipe
from tests.support.real_runs import lines_without_times
from tests.support.set_fixtures import write_set
from tests.support.shard_damage import shard, truncate

pytestmark = pytest.mark.usefixtures("compiled_once")

NAMES = ("a/dev", "few", "b/dev")
CLIPS = (9, 4, 3)
FIRSTS = (0, 9, 13)
SETTINGS = {
    "data__temperature": 2.0,
    "log__by_set": True,
    "steps": 4,
    "fsdp": 2,
    "evaluation__clips": 8,
    "evaluation__batch": 8,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three sets, the first one with a broken shard of four clips."""
    root = tmp_path_factory.mktemp("data")
    for name, count in zip(NAMES, CLIPS):
        write_set(root / name, [64 + clip for clip in range(count)], noisy=True)
    truncate(shard(root / NAMES[0], "audio", 1))
    return root


def changed(data, **changes):
    sets = tuple(str(data / name) for name in NAMES)
    return SETTINGS | {"data__sets": sets, "evaluation__sets": sets[1:]} | changes


def config(data, **changes):
    return shrunk_recipe.config(**changed(data, **changes))


def run(settings, directory, **choices):
    return pretrain.run(settings, directory, show_progress=False, **choices)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    directory = tmp_path_factory.mktemp("run") / "whole"
    return directory, run(config(data), directory)


def of_steps(directory):
    return [line for line in read_metrics(directory) if "rate" in line]


@pytest.mark.slow
def test_the_shares_are_those_of_the_clips_that_were_read(whole, data):
    with Pipeline(config(data).data).batches() as stream:
        batches = [next(stream)["example"] for _ in range(4)]
        assert stream.replaced
    for line, examples in zip(of_steps(whole[0]), batches, strict=True):
        found = [line[f"data/share/{name}"] for name in NAMES]
        assert found == [
            np.mean((lo <= examples) & (examples < hi)) for lo, hi in ((0, 9), (9, 13), (13, 16))
        ]


@pytest.mark.slow
def test_the_losses_of_the_sets_average_to_the_loss(whole):
    for line in of_steps(whole[0]):
        for term in ("video", "audio"):
            parts = [line[f"data/share/{name}"] * line[f"loss/{term}/{name}"] for name in NAMES]
            assert sum(parts) == pytest.approx(line[f"loss/{term}"], rel=1e-5)
            assert len({line[f"loss/{term}/{name}"] for name in NAMES}) == 3
    (line,) = [line for line in read_metrics(whole[0]) if "held_out/video" in line]
    for term in ("video", "audio"):
        # Seven clips, of all four and all three.
        parts = [4 * line[f"held_out/{term}/few"], 3 * line[f"held_out/{term}/dev"]]
        assert sum(parts) / 7 == pytest.approx(line[f"held_out/{term}"], rel=1e-5)


@pytest.mark.slow
def test_losses_of_sets_do_not_change_the_run(whole, data, tmp_path):
    state = run(config(data, log__by_set=False), tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, state, whole[1])
    more = [f"{of}/{term}/" for of in ("loss", "held_out") for term in ("video", "audio")]
    expected = [
        {name: value for name, value in line.items() if not name.startswith(tuple(more))}
        for line in lines_without_times(whole[0])
    ]
    assert lines_without_times(tmp_path / "run") == expected


@pytest.mark.slow
@pytest.mark.parametrize("step", [0, 2])
def test_a_mixture_resumes_as_one_that_was_never_stopped(whole, data, tmp_path, step):
    shutil.copytree(whole[0], tmp_path / "run")
    for later in range(step + 2, 5, 2):
        shutil.rmtree(tmp_path / f"run/checkpoints/{later}")
    state = run(config(data), tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, state, whole[1])
    assert lines_without_times(tmp_path / "run") == lines_without_times(whole[0])


@pytest.mark.slow
def test_two_processes_log_the_shares_of_all_clips(whole, data, compiled, tmp_path):
    """From step 2 on, with four devices each."""
    shutil.copytree(whole[0], tmp_path / "run")
    shutil.rmtree(tmp_path / "run/checkpoints/4")
    command = shrunk_recipe.arguments("unused", tmp_path / "run", **changed(data))
    ended = several_hosts.finish(several_hosts.start_hosts([command] * 2, compiled, devices=4))
    assert [code for code, *_ in ended] == [0, 0], ended
    assert "going on    from step 2 of 4" in ended[0][1]
    lines, expected = lines_without_times(tmp_path / "run"), lines_without_times(whole[0])
    assert [line.keys() for line in lines] == [line.keys() for line in expected]
    for line, other in zip(lines, expected):
        shares = [name for name in line if name.startswith("data/share/")]
        assert [line[name] for name in shares] == [other[name] for name in shares]
        losses = [name for name in line if name.startswith(("loss/video", "loss/audio"))]
        assert [line[name] for name in losses] == pytest.approx([other[name] for name in losses], rel=1e-4)


@pytest.mark.slow
def test_a_run_of_another_temperature_is_another_run(whole, data):
    with pytest.raises(ValueError, match=r"data\.temperature is 2\.0 in the checkpoint, 'inf' in the config"):
        run(config(data, data__temperature=float("inf")), whole[0])


def test_a_line_for_each_set_says_how_often_it_is_repeated(data):
    """Weights of 3, 2 and √3."""
    lines = pretrain._lines_of_sets(pretrain._Data(config(data)), 320)
    assert list(lines) == [
        "set         a/dev: 9 clips, 44.6% of the batches, 15.84 passes",
        "set         few: 4 clips, 29.7% of the batches, 23.77 passes",
        "set         b/dev: 3 clips, 25.7% of the batches, 27.44 passes",
    ]
    alone = config(data, data__sets=(str(data / "a/dev"),))
    assert list(pretrain._lines_of_sets(pretrain._Data(alone), 320)) == []
