"""Published weights become a run that can be evaluated, scored, fine-tuned from and trained on."""

import argparse
import json

import jax
import numpy as np
import pytest
import torch

from configs import finetune as finetune_recipe
from configs import pretrain as pretrain_recipe
from hicmae_jax.checkpoints.load import load_parameters
from hicmae_jax.runs import pretrain
from hicmae_jax.runs.imported import import_weights
from hicmae_jax.runs.score_corpus import score_corpus
from hicmae_jax.settings import pretrain as pretrain_settings
from hicmae_jax.weights import torch_names
from hicmae_jax.weights.card import model_card
from hicmae_jax.weights.encoders import load_encoders
from hicmae_jax.weights.export import export
from hicmae_jax.weights.trained import load_trained
from tests.support import corpus_fixtures, finetune_fixtures, run_fixtures, set_fixtures
from tests.support.run_fixtures import run_module

pytestmark = pytest.mark.filterwarnings(corpus_fixtures.PROTOBUF_IN_TFDS)

MODEL = run_fixtures.MODEL


def recipe(**changes):
    """The recipe of the tiny model; `a__b` stands for `a.b`."""
    config = pretrain_recipe.get_config("mu,runlocal")
    config.masks.video_ratio = config.masks.audio_ratio = 0.5
    fields = {f"model__{name}": value for name, value in vars(MODEL).items()}
    for name, value in {**fields, **changes}.items():
        section, _, key = name.rpartition("__")
        (config[section] if section else config)[key] = value
    return config


def published(path, params, **changes):
    """Write a training checkpoint as DistributedDataParallel and mixed precision leave it."""
    state = torch_names.state_dict(params, MODEL.patch)
    content = {
        "model": {f"module.{name}": torch.tensor(value).half() for name, value in state.items()},
        "optimizer": {
            "state": {0: {"step": 3, "exp_avg": torch.zeros(2)}},
            "param_groups": [{"params": [0]}],
        },
        "scaler": {"scale": 65536.0},
        "epoch": 99,
        "args": argparse.Namespace(
            model="pretrain_base", lr=3e-4, device=torch.device("cpu").type, none=None
        ),
        **changes,
    }
    torch.save(content, path)
    return path


@pytest.fixture(scope="module")
def params():
    return run_fixtures.parameters(run_fixtures.config("any"), 1)


@pytest.fixture(scope="module")
def weights(params, tmp_path_factory):
    return published(tmp_path_factory.mktemp("weights") / "checkpoint-99.pth", params)


@pytest.mark.parametrize("scanned", [False, True])
def test_a_published_training_checkpoint_becomes_a_run(weights, params, tmp_path, scanned):
    lines = import_weights(weights, recipe(execution__scan_encoders=scanned), tmp_path / "run")
    loaded, record = load_parameters(tmp_path / "run")
    if scanned:
        loaded = torch_names.unstack_layers(loaded)
    halved = jax.tree.map(lambda leaf: np.float32(np.float16(leaf)), params)
    jax.tree.map(np.testing.assert_array_equal, loaded, halved)
    about = json.loads((tmp_path / "run/imported.json").read_text())
    assert about["sha256"] == record["imported"] in lines[1]
    assert about["beside"]["args"] == {"model": "pretrain_base", "lr": 3e-4, "device": "cpu", "none": None}
    assert about["beside"]["epoch"] == 99
    assert lines[2].endswith("optimizer, scaler, epoch, args")
    assert any("upstream terms" in line for line in lines)
    assert {path.name for path in (tmp_path / "run").iterdir()} >= {"config.json", "versions.json"}


@pytest.mark.slow
def test_training_goes_on_from_imported_weights_with_data_of_ones_own(weights, params, tmp_path):
    data = set_fixtures.write_set(tmp_path / "set", [20] * 8, size=32, noisy=True)
    import_weights(weights, recipe(execution__scan_encoders=False), tmp_path / "run")
    changes = {
        "execution__scan_encoders": False,
        "data__sets": (str(data),),
        "batch": 8,
        "steps": 1,
        "warmup_steps": 0,
    }
    config = recipe(**changes, loss__negatives="global")
    state = pretrain.run(
        pretrain_settings.from_config_dict(config, "cpu"), tmp_path / "run", show_progress=False
    )
    assert int(state.step) == 1
    before = jax.tree.leaves(params)
    after = jax.tree.leaves(jax.device_get(state.params))
    # The first rates of a warm-up are small: the weights are still those of the file, but not all the same.
    assert max(float(np.abs(a - b).max()) for a, b in zip(after, before, strict=True)) < 0.01


def test_fine_tuning_begins_with_imported_weights(weights, params, tmp_path):
    import_weights(weights, recipe(), tmp_path / "run")
    encoders = load_encoders(tmp_path / "run")
    assert encoders.config == MODEL
    expected = torch_names.state_dict(params, MODEL.patch)["encoder.norm.weight"]
    np.testing.assert_array_equal(encoders.state["encoder.norm.weight"], np.float32(np.float16(expected)))


def test_a_fine_tuned_model_is_scored_as_the_run_that_it_comes_from(tmp_path):
    data = finetune_fixtures.write_labelled_set(tmp_path / "set", 24, speakers=4)
    run = finetune_fixtures.write_run(tmp_path / "fold-2", finetune_fixtures.config(data, data__fold=2))
    export(str(run), None, tmp_path / "tuned.safetensors", check=False)
    config = finetune_recipe.get_config("made_up,runlocal")
    config.data.fold, config.data.stride = 2, 2
    lines = import_weights(tmp_path / "tuned.safetensors", config, tmp_path / "imported")
    assert "fine-tuned for made_up, fold 2" in lines[0]
    before = score_corpus(run, data, "made_up", tmp_path / "before")
    after = score_corpus(tmp_path / "imported", data, "made_up", tmp_path / "after")
    assert after["scored"] == "the test clips of fold 2 of made_up"
    assert after["scores"] == before["scores"]


def test_weights_and_settings_that_do_not_fit_are_named(weights, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(
        ValueError, match=r"pth: holds a pre-training model: give a recipe such as --config=pre"
    ):
        import_weights(weights, finetune_recipe.get_config("crema_d"), out)
    with pytest.raises(ValueError, match=r"pth: weights do not fit the model; .* wrong shape"):
        import_weights(weights, pretrain_recipe.get_config("B"), out)
    with pytest.raises(FileNotFoundError, match=r"nothing\.pth: no such file"):
        import_weights(tmp_path / "nothing.pth", recipe(), out)
    assert not out.exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").touch()
    with pytest.raises((ValueError, FileExistsError), match="not empty"):
        import_weights(weights, recipe(), tmp_path / "full")


def test_the_size_of_published_weights_is_named(tmp_path):
    config = pretrain_recipe.get_config("mu")
    config.data.sets = ("any",)
    published(
        tmp_path / "mu.pth", run_fixtures.parameters(pretrain_settings.from_config_dict(config, "cpu"), 0)
    )
    with pytest.raises(ValueError, match="are of size mu, the settings of size T: give --config=pre"):
        import_weights(tmp_path / "mu.pth", pretrain_recipe.get_config("T"), tmp_path / "run")


def test_a_head_of_another_protocol_is_refused(tmp_path):
    data = finetune_fixtures.write_labelled_set(tmp_path / "set", 24, speakers=4)
    run = finetune_fixtures.write_run(tmp_path / "fold-1", finetune_fixtures.config(data))
    export(str(run), None, tmp_path / "tuned.safetensors", check=False)
    with pytest.raises(
        ValueError, match=r"head has 6 outputs, mafw_11 has 11: give the recipe of the protocol"
    ):
        import_weights(
            tmp_path / "tuned.safetensors", finetune_recipe.get_config("mafw_11"), tmp_path / "run"
        )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(params, tmp_path, value):
    spoilt = jax.tree.map(np.array, params)
    spoilt["encoder"]["norm"]["scale"][0] = value
    published(tmp_path / "a.pth", spoilt)
    with pytest.raises(ValueError, match=r"encoder\.norm\.weight has values that are not finite"):
        import_weights(tmp_path / "a.pth", recipe(), tmp_path / "run")


def test_the_command_says_what_it_has_done(weights, tmp_path):
    done = run_module(
        "launch.import_weights", f"--weights={weights}", "--config=pretrain:B", f"--run={tmp_path / 'run'}"
    )
    assert done.returncode == 1
    assert done.stderr.startswith("import: ")
    assert done.stderr.count("\n") == 1


def test_the_card_of_imported_weights_does_not_claim_that_this_project_trained_them(weights, tmp_path):
    import_weights(weights, recipe(), tmp_path / "run")
    trained = load_trained(tmp_path / "run")
    card = model_card(trained, 1)
    assert 'license: "other"' in card
    assert f"a file of SHA-256 `{trained.imported}`. Neither their data nor their recipe are recorded" in card
    assert "were not trained with hicmae_jax" in card
    assert "Check the terms of the source" in card
    for claim in ("## Recipe", "unknown", "after 0 updates", "were trained with hicmae_jax"):
        assert claim not in card
    gone_on = model_card(trained._replace(step=5), 1)
    assert 'license: "other"' in gone_on
    assert "training began with weights of another program" in gone_on
    assert "These weights were trained with hicmae_jax" in gone_on
