"""`import hicmae_jax as hj`: importing it loads nothing, and each name is where type checkers find it."""

import ast
import importlib
import subprocess
import sys

import jax
import numpy as np
import pytest

import hicmae_jax as hj
from hicmae_jax.objective.config import LossConfig
from hicmae_jax.preprocessing.pretrain import PreprocessConfig, preprocess_batch
from tests.support import set_fixtures, tiny_model
from tests.support.paths import ROOT

PACKAGE = ROOT / "hicmae_jax" / "__init__.py"


def test_importing_it_loads_neither_jax_nor_numpy():
    script = """
import sys
import hicmae_jax as hj
assert set(hj.__all__) <= set(dir(hj))
print({"jax", "numpy", "flax", "hicmae_jax.notebook"} & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "set()"


def test_type_checkers_find_each_name_where_it_is_loaded_from():
    block = next(
        node for node in ast.parse(PACKAGE.read_text(encoding="utf-8")).body if isinstance(node, ast.If)
    )
    found = {}
    for node in block.body:
        for alias in node.names:
            assert alias.name == alias.asname
            found[alias.name] = node.module.removeprefix("hicmae_jax.")
    assert found == hj._WHERE


@pytest.mark.parametrize("name", hj.__all__)
def test_each_name_is_loaded_and_documented(name):
    value = getattr(hj, name)
    assert value is getattr(importlib.import_module(f"hicmae_jax.{hj._WHERE[name]}"), name)
    assert value.__doc__


def test_another_name_is_an_error():
    with pytest.raises(AttributeError, match="has no attribute 'sise'"):
        hj.sise  # noqa: B018


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return set_fixtures.write_set(tmp_path_factory.mktemp("sets") / "dev", [120] * 5, size=32, noisy=True)


def assert_close(actual, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), actual, expected)


def test_clips_become_a_loss_and_features(data):
    config = tiny_model.model_config(audio_bins=128)
    clips = hj.read(data, count=4, frames=config.frames)
    assert clips["frames"].shape == (4, 4, 32, 32, 3)
    assert clips["example"].tolist() == [0, 1, 2, 3]

    inputs = hj.preprocess(clips, config, seed=3, step=5, masks=tiny_model.MASKS)
    of_the_run = PreprocessConfig(model=config, masks=tiny_model.MASKS)
    expected = jax.jit(lambda clips: preprocess_batch(clips, jax.random.key(3), 5, of_the_run))(clips)
    assert_close(inputs, expected._replace(video=expected.video / 255))
    plain = hj.preprocess(clips, config, masks=tiny_model.MASKS, augment=False)
    np.testing.assert_allclose(plain.video, clips["frames"] / 255, atol=1e-6)

    params = hj.init(config, seed=3)
    model = hj.HiCMAE(config)
    whole_batch = LossConfig(negatives="global")  # as the batch has fewer than 40 clips

    @jax.jit
    def losses(params):
        return hj.pretrain_loss(model, params, inputs), hj.pretrain_loss(model, params, inputs, whole_batch)

    (loss, terms), (expected, _) = losses(params)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert terms["contrastive_levels"].shape == (2,)

    features = hj.embed(params, config, clips, batch=3)
    assert [(layer, *map(np.shape, pair)) for layer, pair in features.items()] == [
        (1, (4, 32), (4, 32)),
        (3, (4, 32), (4, 32)),
    ]


def test_a_recipe_with_changes(data):
    settings = hj.pretrain_settings(
        "pretrain:mu,runlocal", data=str(data), steps=7, warmup_steps=2, loss={"temperature": 1}
    )
    assert (settings.size, settings.batch, settings.total_steps(1)) == ("mu", 8, 7)
    assert (settings.loss.temperature, settings.loss.negatives) == (1.0, "group:4")
    assert settings.data.data == (str(data),)
    weighted = hj.pretrain_settings(data={"sets": ["a", "b"], "weights": [1, 3]})
    assert (weighted.data.data, weighted.data.weights) == (("a", "b"), (1.0, 3.0))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"los": 1}, "there is no setting los; the nearest is "),
        ({"loss": {"temprature": 1}}, "there is no setting loss.temprature; the nearest is loss.temperature"),
        ({"batch": "many"}, "batch = 'many'"),
        ({"recipe": "pretrian:B"}, "pretrian:B: there is no recipe pretrian"),
        ({"data": ()}, "data.sets is empty"),
    ],
)
def test_a_wrong_change_is_one_line(changes, line):
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        hj.pretrain_settings(**({"data": "data/dev"} | changes))
    assert str(raised.value).startswith(line)
    assert "\n" not in str(raised.value)
