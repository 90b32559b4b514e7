"""The real recipe, shrunk: from recordings to weights for PyTorch, resuming, and refused settings."""

import json
import shutil

import jax
import numpy as np
import pytest
import torch
from etils import epath

from hicmae_jax.checkpoints.load import load_parameters
from hicmae_jax.checkpoints.manager import Checkpoints
from hicmae_jax.logs.metrics import read_metrics
from hicmae_jax.runs import pretrain
from hicmae_jax.runs.loop import Loop
from hicmae_jax.settings.pretrain import from_config_dict
from hicmae_jax.weights import files as weight_files
from hicmae_jax.weights import torch_model, torch_names
from hicmae_jax.weights.export import export
from tests.support import corpus_fixtures, shrunk_recipe
from tests.support.corpus_fixtures import tree
from tests.support.golden_torch import config_of
from tests.support.real_runs import lines_without_times

pytestmark = [
    pytest.mark.filterwarnings(corpus_fixtures.PROTOBUF_IN_TFDS),
    pytest.mark.usefixtures("compiled_once"),
]

STEPS = 4


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A prepared set of nine clips shorter than two seconds."""
    root = tmp_path_factory.mktemp("data")
    corpus_fixtures.write_corpus(root / "raw", 9)
    corpus_fixtures.prepare(root / "raw", root / "prepared")
    return root / "prepared"


def config(data, **changes):
    settings = {
        "steps": STEPS,
        "fsdp": 2,
        "evaluation__sets": (str(data),),
        "evaluation__clips": 4,
        "evaluation__every": 2,
        "evaluation__batch": 4,
    }
    return shrunk_recipe.config(data, **settings | changes)


def run(settings, directory, **choices):
    return pretrain.run(settings, directory, show_progress=False, **choices)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """An uninterrupted run: its directory and last state."""
    directory = tmp_path_factory.mktemp("run") / "whole"
    return directory, run(config(data), directory)


@pytest.fixture
def killed(whole, tmp_path):
    """A copy of that run as it is if it is killed during its last save."""
    shutil.copytree(whole[0], tmp_path / "run")
    shutil.rmtree(tmp_path / "run/checkpoints/4")
    return tmp_path / "run"


# --- A run --------------------------------------------------------------------------------------------------


def test_a_run_writes_the_documented_files(whole, data):
    directory, state = whole
    assert sorted(path.name for path in directory.iterdir()) == [
        "checkpoints",
        "config.json",
        "events.jsonl",
        "metrics.jsonl",
        "versions.json",
    ]
    assert sorted(int(path.name) for path in (directory / "checkpoints").iterdir()) == [0, 2, 4]
    assert from_config_dict(json.loads((directory / "config.json").read_text()), "cpu") == config(data)
    assert json.loads((directory / "versions.json").read_text())["devices"] == 8
    params, record = load_parameters(directory)
    jax.tree.map(np.testing.assert_array_equal, params, state.params)
    assert record["config"] == json.loads((directory / "config.json").read_text())
    assert list(record["data"]) == [str(data)]
    assert state.step == STEPS


def test_every_term_of_the_loss_is_logged_and_the_model_scored(whole):
    lines = read_metrics(whole[0])
    of_steps = [line for line in lines if "rate" in line]
    assert [line["step"] for line in of_steps] == [1, 2, 3, 4]
    for line in of_steps:
        terms = [line[f"loss/{name}"] for name in ("video", "audio", "contrastive_level_0")]
        np.testing.assert_allclose(line["loss/total"], np.dot(terms, [1, 1, 0.0025]), rtol=1e-5)
        assert line["norm/gradient"] > 0
    assert [line["step"] for line in lines if "held_out/total" in line] == [2, 4]
    assert all(np.isfinite(value) for line in lines for value in line.values())


def test_the_state_is_split_after_training(whole):
    state = whole[1]
    adam = state.opt_state[0]
    for of_kind in (state.params, adam.mu, adam.nu):
        kernel = of_kind["encoder"]["blocks"]["attn"]["qkv"]["kernel"]
        assert kernel.sharding.spec == jax.P(None, None, "fsdp")
        assert kernel.addressable_shards[0].data.shape == (2, 16, 24)


def test_the_weights_of_a_run_load_in_pytorch(whole, data, tmp_path):
    output = epath.Path(tmp_path / "weights.safetensors")
    export(str(whole[0]), None, output, check=False)
    exported = weight_files.read(output)
    for name, value in torch_names.state_dict(jax.device_get(whole[1].params)).items():
        np.testing.assert_array_equal(exported[name], value, err_msg=name)
    model = torch_model.PretrainModel(config_of(config(data).model))
    model.load_state_dict({name: torch.from_numpy(value) for name, value in exported.items()})


def test_a_finished_run_is_not_changed(whole, data, capsys):
    before = tree(whole[0])
    assert run(config(data), whole[0]) is None
    assert "holds step 4" in capsys.readouterr().out.splitlines()[-1]
    assert tree(whole[0]) == before


# --- Going on -----------------------------------------------------------------------------------------------


def test_a_killed_and_resumed_run_ends_like_an_uninterrupted_one(whole, killed, data, capsys):
    state = run(config(data), killed)
    assert "going on    from step 2 of 4" in capsys.readouterr().out
    jax.tree.map(np.testing.assert_array_equal, state, whole[1])
    assert lines_without_times(killed) == lines_without_times(whole[0])


def test_a_run_resumes_with_other_batches_only_if_allowed(killed, data, capsys, monkeypatch):
    option = "xla_cpu_enable_fast_math=false"
    other = config(data, data__shuffle_window=1, execution__compiler_options=(option,))
    before = tree(killed)
    with pytest.raises(ValueError, match=r"data\.shuffle_window is 0 in the checkpoint, 1 in the config"):
        run(other, killed)
    assert tree(killed) == before

    def run_loop(self, state, batches, *, first_step, total_steps):
        return int(state.step), first_step

    monkeypatch.setattr(Loop, "run", run_loop)
    assert run(other, killed, allow_changes=True) == (2, 2)
    output = capsys.readouterr().out
    assert "changed     data.shuffle_window is 0 in the checkpoint" in output
    assert f"compiler    {option}" in output.splitlines()


# --- Mistakes -----------------------------------------------------------------------------------------------


@pytest.fixture
def nothing_compiled(monkeypatch):
    """Fail if a state is created or restored, or a step is compiled."""

    def fails(*_, **__):
        raise AssertionError("a refused run has begun")

    monkeypatch.setattr(pretrain.train_state, "create", fails)
    monkeypatch.setattr(Checkpoints, "restore", fails)
    monkeypatch.setattr(Loop, "run", fails)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 12}, "12 clips, does not divide over 8 devices: choose a batch that is a multiple of 8"),
        (
            {"batch": 16, "accumulate": 4},
            "batch 16 / accumulate 4, 4 clips, does not divide over 8 devices: choose a batch that is a "
            "multiple of 32",
        ),
        (
            {"execution__compiler_options": ("xla_nonsense=1",)},
            r"^execution\.compiler_options: No such compile option: 'xla_nonsense'",
        ),
        ({"fsdp": 3}, "fsdp = 3 does not divide the 8 devices"),
        ({"batch": 16}, "9 clips are fewer than a batch of 16"),
        ({"batch": 8 * 10**9}, r"batch = 8,000,000,000, .* take at least .* GB, and this host has .* GB: "),
        (
            {"model__encoder_dim": 10**9},
            r"model\.encoder_dim = 1,000,000,000, .* take at least .* GB, and this",
        ),
        ({"data__workers": 10**6}, r"data\.workers = 1,000,000"),
        ({"data__sets": ("nowhere",)}, "nowhere/dataset.json is missing"),
        ({"evaluation__sets": ("nowhere",)}, "nowhere/dataset.json is missing"),
    ],
)
def test_impossible_settings_are_refused_at_once(data, tmp_path, nothing_compiled, changes, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message) as refused:
        run(config(data, **changes), tmp_path / "run")
    assert len(str(refused.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__encoder_dim": 32}, "model.encoder_dim is 16 in the checkpoint, 32 in the config"),
        (
            {"execution__scan_encoders": False, "execution__remat_encoder": "none"},
            "execution.scan_encoders is True in",
        ),
        ({"seed": 1}, "seed is 0 in the checkpoint, 1 in the config.*--allow_changes"),
    ],
)
def test_resuming_with_settings_of_another_run_is_refused(whole, data, nothing_compiled, changes, message):
    before = tree(whole[0])
    with pytest.raises(ValueError, match=message) as refused:
        run(config(data, **changes), whole[0])
    assert len(str(refused.value).splitlines()) == 1
    assert tree(whole[0]) == before


def test_a_directory_that_is_not_a_runs_is_refused_and_not_changed(data, tmp_path, nothing_compiled, bucket):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.tex").write_text("kept")
    (tmp_path / "thesis/config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"thesis is not empty and not a run's \(chapter.tex, …\)"):
        run(config(data), tmp_path / "thesis")
    bucket.put("shop/thesis/chapter.tex", b"kept")
    with pytest.raises(ValueError, match=r"gs://shop/thesis is not empty and not a run's \(chapter.tex, …\)"):
        run(config(data), "gs://shop/thesis")
    assert list(bucket.objects) == ["shop/thesis/chapter.tex"]
    with pytest.raises(ValueError, match=r"chapter.tex is not a directory"):
        run(config(data), tmp_path / "thesis/chapter.tex")
    assert tree(tmp_path) == {"thesis/chapter.tex": b"kept", "thesis/config.json": b"{}"}


def test_a_log_that_cannot_be_continued_is_refused_at_once(killed, data, nothing_compiled):
    with (killed / "metrics.jsonl").open("a") as log:
        log.write("no JSON\n" * 2)
    before = tree(killed)
    with pytest.raises(ValueError, match=r"metrics.jsonl: line \d+ is not a line of metrics"):
        run(config(data), killed)
    assert tree(killed) == before
