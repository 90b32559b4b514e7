"""`load_trained`: the same model from a run, a checkpoint and a file, and what is known about it."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from data_pipeline.corpora.protocols import protocol
from hicmae_jax.weights import files, torch_names
from hicmae_jax.weights.trained import STRIDE, load_trained
from tests.support import finetune_fixtures, run_fixtures


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    return finetune_fixtures.write_labelled_set(tmp_path_factory.mktemp("set"), n_clips=12)


@pytest.fixture(scope="module")
def tuned_config(labelled):
    return finetune_fixtures.config(labelled, execution__scan_encoders=True)


@pytest.fixture(scope="module")
def tuned(tuned_config, tmp_path_factory):
    root = tmp_path_factory.mktemp("fold")
    return finetune_fixtures.write_run(root, tuned_config, steps=(3, 5), best=3)


def assert_same(actual, expected):
    jax.tree.map(np.testing.assert_array_equal, actual, jax.device_get(expected))


def test_a_pretraining_run_and_its_checkpoints(tmp_path):
    config = run_fixtures.config("unused", scan_encoders=True)
    run = run_fixtures.write_run(tmp_path, config, steps=(3, 5))
    for source, options, step in (
        (run, {}, 5),
        (run, {"step": 3}, 3),
        (run / "checkpoints", {}, 5),
        (run / "checkpoints" / "3", {}, 3),
    ):
        found = load_trained(source, **options)
        assert_same(found.params, torch_names.unstack_layers(run_fixtures.parameters(config, step)))
        assert (found.model, found.step) == (config.model, step)
        assert (found.finetune, found.labels, found.regression) == (None, (), False)
        assert (found.frames, found.stride) == (config.model.frames, config.values["data.stride"])
        assert found.origin.endswith(f", step {step}")


def test_a_fold(tuned, tuned_config):
    for options, step in (({}, 5), ({"best": True}, 3), ({"step": 3}, 3)):
        found = load_trained(tuned, **options)
        parameters = finetune_fixtures.parameters(tuned_config, step)
        assert_same(found.params, torch_names.unstack_layers(parameters))
        assert found.step == step
        assert found.labels == finetune_fixtures.CLASSES
        assert found.finetune == tuned_config.for_outputs(6)
        assert found.values["data.fold"] == 1
        assert (found.stride, found.regression, found.scores) == (2, False, {})


def test_scores_of_a_finished_fold(tuned_config, tmp_path):
    fold = finetune_fixtures.write_run(tmp_path, tuned_config)
    (fold / "scores.json").write_text(json.dumps({"fold": 1}))
    assert load_trained(fold).scores == load_trained(fold / "checkpoints" / "3").scores == {"fold": 1}
    (fold / "scores.json").write_text("{")
    with pytest.raises(ValueError, match=r"scores\.json is damaged .*: delete it and score the fold again"):
        load_trained(fold)


def test_dimensions_of_a_regression_and_the_stride_of_the_protocol(labelled, tmp_path):
    config = finetune_fixtures.config(labelled, "werewolf_xl", data__stride=None)
    found = load_trained(finetune_fixtures.write_run(tmp_path, config))
    assert (found.labels, found.regression) == (("arousal", "valence", "dominance"), True)
    assert found.stride == protocol("werewolf_xl").stride == 3


def test_classes_that_only_the_data_tell(labelled, tmp_path):
    config = finetune_fixtures.config(labelled, "mafw_43")
    fold = finetune_fixtures.write_run(tmp_path, config)
    assert load_trained(fold).labels == tuple(f"LABEL_{number}" for number in range(43))
    names = [f"compound {number}" for number in range(43)]
    (fold / "scores.json").write_text(json.dumps({"outputs": names}))
    assert load_trained(fold).labels == tuple(names)
    (fold / "scores.json").write_text(json.dumps({"outputs": names[:7]}))
    with pytest.raises(ValueError, match="the head has 43 outputs, but mafw_43 has 7"):
        load_trained(fold)


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
@pytest.mark.parametrize("modality", ["audio-visual", "video", "audio"])
def test_a_file_of_a_finetuned_model(labelled, tmp_path, ending, modality):
    fused = modality != "video"
    config = finetune_fixtures.config(
        labelled, finetune__modality=modality, finetune__feature_fusion=fused, execution__scan_encoders=False
    )
    params = jax.device_get(finetune_fixtures.parameters(config, 3))
    path = tmp_path / f"weights.{ending}"
    files.write(path, torch_names.state_dict(params), dataclasses.asdict(config.model))
    found = load_trained(path)
    assert_same(found.params, params)
    assert found.model == config.model
    assert dataclasses.replace(found.finetune, drop_path=0.0) == dataclasses.replace(
        config.for_outputs(6), drop_path=0.0
    )
    assert found.labels == ("LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3", "LABEL_4", "LABEL_5")
    assert (found.stride, found.step, found.values) == (STRIDE, None, {})
    assert f"weights.{ending}, SHA-256 " in found.origin


def test_a_file_of_a_pretraining_model(tmp_path):
    config = run_fixtures.config("unused")
    params = jax.device_get(run_fixtures.parameters(config, 3))
    path = tmp_path / "weights.safetensors"
    files.write(path, torch_names.state_dict(params), dataclasses.asdict(config.model))
    found = load_trained(path)
    assert_same(found.params, params)
    assert (found.model, found.finetune, found.labels) == (config.model, None, ())


def test_wrong_sources_are_refused(tuned, tmp_path):
    with pytest.raises(ValueError, match="step 3 and the best checkpoint are both asked for"):
        load_trained(tuned, step=3, best=True)
    with pytest.raises(ValueError, match="is one checkpoint: leave step and best out"):
        load_trained(tuned / "checkpoints" / "3", step=5)
    with pytest.raises(ValueError, match="is a file, which has one step"):
        load_trained(tmp_path / "a.pth", best=True)
    with pytest.raises(FileNotFoundError, match="no such directory"):
        load_trained(tmp_path / "none")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.full(32, np.nan, np.float32), r"encoder\.norm\.weight has values that are not finite"),
        (np.ones(32, np.int64), r"encoder\.norm\.weight is of type int64, which is no weight"),
        (np.ones(31, np.float32), r"wrong shape: encoder\.norm\.weight"),
    ],
)
def test_damaged_files_are_refused(tmp_path, value, message):
    config = run_fixtures.config("unused")
    state = torch_names.state_dict(run_fixtures.parameters(config, 3))
    path = tmp_path / "weights.safetensors"
    files.write(path, state | {"encoder.norm.weight": value}, dataclasses.asdict(config.model))
    with pytest.raises(ValueError, match=rf"weights\.safetensors: .*{message}"):
        load_trained(path)


def test_a_file_of_another_kind_is_no_model(tmp_path):
    (tmp_path / "face.mp4").touch()
    with pytest.raises(
        ValueError, match=r"face\.mp4 is no model: name a run, an exported folder or a file that"
    ):
        load_trained(tmp_path / "face.mp4")
