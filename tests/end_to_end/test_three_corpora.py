"""Three corpora in three layouts, prepared by the command, mixed, trained, killed and resumed bit for bit."""

import re
import shutil

import jax
import numpy as np
import pytest

from data_pipeline.format.prepared_set import read_prepared_set
from data_pipeline.synthetic import write_voxceleb2
from tests.support import shrunk_recipe
from tests.support.instrumented_pretrain import pause_file
from tests.support.processes import start_module, wait_until
from tests.support.real_runs import last_state, lines_without_times
from tests.support.several_hosts import environment

pytestmark = pytest.mark.slow

CLIPS, SPEAKERS = 8, 4
SECONDS = {"vox": (2.7, 3.0), "films": (2.7, 3.0), "talks": (9.0, 9.0)}


def prepare(*arguments):
    process = start_module("launch.prepare", *map(str, arguments), "--workers=2")
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """The three corpora: VoxCeleb2, a folder with sounds beside videos, and a list of parts of recordings."""
    root = tmp_path_factory.mktemp("raw")
    for seed, (name, seconds) in enumerate(SECONDS.items()):
        options = {"clips": CLIPS, "speakers": SPEAKERS, "test_speakers": 1, "seconds": seconds}
        write_voxceleb2(root / name, seed=seed, workers=1, **options)
    films = root / "films"
    for path in sorted(films.glob("*/*/*/*/*.m*")):
        stem = "_".join(path.relative_to(films).with_suffix("").parts[2:])
        place = films / f"film {int(stem[2:7]) % 2}"
        place.mkdir(exist_ok=True)
        path.rename(place / f"{stem}{path.suffix.upper()}")
    for split in ("dev", "test"):
        shutil.rmtree(films / split)
    talks = root / "talks"
    lines = ["path,wav,start,end,speaker"]
    for path in sorted((talks / "dev/mp4").rglob("*.mp4")):
        name = path.relative_to(talks / "dev/mp4").with_suffix("")
        for begin in (0.0, 2.8, 5.6):
            lines.append(f"mp4/{name}.mp4,aac/{name}.m4a,{begin},{begin + 2.8},{name.parts[0]}")
    (root / "talks.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def sets(raw, tmp_path_factory):
    """The prepared sets."""
    root = tmp_path_factory.mktemp("prepared")
    out = prepare(f"--input={raw / 'vox'}", f"--output={root / 'vox'}")
    assert "layout    voxceleb2: " in out
    out = prepare(f"--input={raw / 'films'}", f"--output={root / 'films'}", "--split=all")
    assert "layout    folder: " in out
    words = (f"--input={raw / 'talks.csv'}", f"--root={raw / 'talks/dev'}", f"--output={root / 'talks'}")
    assert "layout    list: 18 clips of " in prepare(*words)
    return [root / name for name in SECONDS]


def test_every_clip_of_every_layout_is_there(sets):
    kept = {root.name: read_prepared_set(root) for root in sets}
    assert {name: about.n_clips for name, about in kept.items()} == {"vox": 6, "films": 8, "talks": 18}
    assert kept["talks"].n_frames == 18 * 70
    assert not any(about.rejected for about in kept.values())


def test_recordings_are_cut_by_the_command(raw, tmp_path):
    words = (f"--input={raw / 'talks'}", f"--output={tmp_path / 'cut'}", "--clip_seconds=2.8")
    assert "cut into 18 clips" in prepare(*words)
    about = read_prepared_set(tmp_path / "cut")
    # 9 s are 2.8 s and 2.8 s and 3.4 s: the rest of 0.6 s belongs to the last clip.
    assert (about.n_clips, about.n_frames) == (18, 6 * 225)


def test_a_mixture_that_is_killed_and_resumed_ends_with_the_same_bits(sets, compiled, tmp_path):
    settings = {
        "data__sets": tuple(map(str, sets)),
        "data__temperature": 2.0,
        "log__by_set": True,
        "steps": 8,
    }

    def start(run, pause_after=None):
        words = shrunk_recipe.arguments("unused", run, **settings)
        program = "launch.pretrain" if pause_after is None else "tests.support.instrumented_pretrain"
        words += [] if pause_after is None else [f"--pause_after={pause_after}"]
        return start_module(program, *words, env=environment(compiled, 2))

    out, err = start(tmp_path / "whole").communicate()
    assert "films" in out, err
    killed = start(tmp_path / "killed", pause_after=5)
    wait_until(lambda: pause_file(tmp_path / "killed").exists() or killed.poll() is not None)
    killed.kill()
    killed.communicate()
    pause_file(tmp_path / "killed").unlink()
    again = start(tmp_path / "killed")
    out, err = again.communicate()
    assert again.returncode == 0, err
    assert re.search(r"going on    from step [24] of 8", out)  # step 4 may not have been saved yet

    of_state = {"data": "unused", **settings}
    step, state = last_state(tmp_path / "killed", **of_state)
    expected_step, expected = last_state(tmp_path / "whole", **of_state)
    assert step == expected_step == 8
    jax.tree.map(np.testing.assert_array_equal, state, expected)
    lines = lines_without_times(tmp_path / "killed")
    assert lines == lines_without_times(tmp_path / "whole")
    for line in lines:
        shares = [line[f"data/share/{root.name}"] for root in sets]
        assert sum(shares) == pytest.approx(1)
        assert all(
            np.isfinite(line[f"loss/video/{root.name}"]) for root in sets if line[f"data/share/{root.name}"]
        )
