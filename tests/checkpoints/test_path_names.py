"""Every name of a directory either holds checkpoints or is refused."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from hicmae_jax.checkpoints.manager import Checkpoints
from hicmae_jax.checkpoints.path_names import REFUSED, check_path
from hicmae_jax.runs.directory import check_directory

GOOD = [
    "a b",
    "a:b",
    "file:a",
    "a\nb",
    "größe 😀",
    "a&b=c;d,e+f",
    "'a\"",
    "{a}]",
    "~a~",
    "-a",
    "$HOME",
    "a..b",
]
BAD = ["a?b", "a#b", "a%b", "a%20b", "a|b", "a.zip|zip:", "a*b", "a**b", "[a]", "a[b", "a\\b", *REFUSED]


@pytest.mark.parametrize("name", GOOD)
def test_a_good_name_holds_checkpoints(tmp_path, name):
    state = {"params": {"a": jnp.arange(6.0).reshape(2, 3)}, "step": jnp.asarray(3)}
    run = tmp_path / name
    check_path(run)
    with Checkpoints(run) as saved:
        saved.save(3, state, {"config": 1})
    with Checkpoints(run) as saved:
        assert saved.last_good() == (3, [])
        as_saved = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
        np.testing.assert_array_equal(saved.restore(as_saved)["params"]["a"], state["params"]["a"])
        assert saved.read_record() == {"config": 1}
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("inside", ["", "/run"])
def test_a_bad_name_is_refused_before_anything_is_written(tmp_path, name, inside):
    with pytest.raises(ValueError, match="checkpoints cannot be saved under a name with ") as refused:
        check_directory(epath.Path(f"{tmp_path}/{name}{inside}"))
    assert all(character in str(refused.value) for character in REFUSED if character in name)
    assert os.listdir(tmp_path) == []


def test_a_relative_name_is_refused_for_the_directory_that_it_is_in(tmp_path, monkeypatch):
    (tmp_path / "a#b").mkdir()
    monkeypatch.chdir(tmp_path / "a#b")
    with pytest.raises(ValueError, match="a#b/run: checkpoints cannot be saved"):
        check_directory(epath.Path("run"))


def test_a_name_that_is_not_text_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not text in this locale"):
        check_directory(epath.Path(tmp_path / os.fsdecode(b"gr\xf6\xdfe")))
