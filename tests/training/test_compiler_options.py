"""The compiler's options: the table, a user's changes, wrong names, and what is compiled with them."""

import jax
import pytest

from hicmae_jax.runs import build
from hicmae_jax.training import compiler_options, sharding
from tests.support import shrunk_recipe

KNOWN = "xla_cpu_enable_fast_math"  # to the compiler of CPUs


def test_cpus_have_no_options():
    assert compiler_options.of("cpu") == {}


@pytest.mark.parametrize("platform", ["gpu", "tpu"])
def test_a_user_adds_replaces_and_removes_options(platform):
    own = compiler_options.BY_PLATFORM[platform]
    first = next(iter(own))
    assert compiler_options.of(platform) == own
    assert compiler_options.of(platform, ["new=text"]) == {**own, "new": "text"}
    rest = {name: value for name, value in own.items() if name != first}
    assert compiler_options.of(platform, [f"{first}="]) == rest
    assert compiler_options.of(platform, [f"{first}=7"]) == {**rest, first: 7}


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("false", False), ("12", 12), ("-1", -1), ("auto", "auto"), ("1e6", "1e6")],
)
def test_values_have_types(text, value):
    found = compiler_options.of("cpu", [f"name={text}"])
    assert found == {"name": value}
    assert type(found["name"]) is type(value)
    assert compiler_options.shown(found) == f"name={text}"


def test_options_are_shown_as_the_command_line_takes_them():
    for own in compiler_options.BY_PLATFORM.values():
        assert compiler_options.of("cpu", compiler_options.shown(own).split(", ")) == own


@pytest.mark.parametrize("options", [{}, {KNOWN: False}])
def test_options_that_the_compiler_knows_pass(options):
    compiler_options.check(options, sharding.make_mesh())


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"xla_nonsense": True}, "No such compile option: 'xla_nonsense'"),
        ({KNOWN: "maybe"}, "'maybe' is not a valid bool value"),
    ],
)
def test_options_that_it_does_not_know_are_one_line(options, why):
    line = rf"^execution\.compiler_options: .*{why}.*; change or remove it"
    with pytest.raises(ValueError, match=line) as error:
        compiler_options.check(options, sharding.make_mesh())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["name", "=value", ""])
def test_a_setting_that_is_no_option_is_refused(text):
    with pytest.raises(ValueError, match=r"execution\.compiler_options: .* is not name=value, nor name="):
        shrunk_recipe.config(execution__compiler_options=(text,))


def test_the_update_is_compiled_with_the_options_of_the_setting(monkeypatch):
    given = {}
    jit = jax.jit
    monkeypatch.setattr(jax, "jit", lambda *args, **more: given.update(more) or jit(*args, **more))
    mesh = sharding.make_mesh()
    for changes, expected in (((), None), ((f"{KNOWN}=false",), {KNOWN: False})):
        config = shrunk_recipe.config(batch=16, execution__compiler_options=changes)
        optimizer_config = config.optimizer_config(steps_per_epoch=1)
        optimizer, abstract = build.abstract_run(config, optimizer_config, mesh)
        build.make_step(config, optimizer, optimizer_config.schedule(), abstract, mesh)
        assert given["compiler_options"] == expected


def test_the_compiler_of_cpus_knows_the_options_of_gpus():
    """The two share one list of options."""
    compiler_options.check(compiler_options.of("gpu"), sharding.make_mesh())


def test_options_of_gpus_are_those_of_cuda():
    assert compiler_options.of("cuda") == compiler_options.of("gpu") != {}
