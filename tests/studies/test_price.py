"""The price of a run, against other commands' figures and by hand."""

import pytest

from hicmae_jax.model import shapes, sizes
from hicmae_jax.model.config import MaskConfig
from hicmae_jax.model.flops import flops
from hicmae_jax.settings import pretrain, recipes
from hicmae_jax.studies import price
from hicmae_jax.studies.plan import PlannedRun


def config(size, **changes):
    given = recipes.load(f"pretrain:{size}")
    given.data.sets = ("any",)
    given.update_from_flattened_dict(changes)
    return pretrain.from_config_dict(given, "tpu")


def test_a_run_costs_what_the_model_needs():
    found = price.price(PlannedRun("b", {}, 1000), config("B"))
    model = sizes.model_config("B")
    assert found.parameters == shapes.pretrain_parameters(model, MaskConfig())
    assert found.flops_a_clip == sum(flops(model, MaskConfig()).training.values())
    assert found.clips == 160_000
    assert found.flops == 160_000 * found.flops_a_clip
    assert found.chip_hours is None


def test_a_branch_costs_only_its_own_steps():
    run = PlannedRun("b", {}, 1000, "branch", "a", 800)
    assert price.price(run, config("T")).clips == 200 * 160


def test_chip_hours_and_what_a_host_reads():
    run = PlannedRun("b", {}, 10**6)
    chip, chips = price.chip_of("v5e:16x16"), price.host_chips("v5e:16x16")
    found = price.price(run, config("B"), chip, chips, mfu=0.5)
    seconds_a_clip = found.flops_a_clip / (0.5 * 197e12)
    assert found.chip_hours == pytest.approx(160e6 * seconds_a_clip / 3600)
    assert found.cores == pytest.approx(8 / seconds_a_clip / price.SAMPLES_A_CORE)
    assert found.gigabytes == pytest.approx(8 / seconds_a_clip * price.MB_A_SAMPLE / 1000)
    header, line, total, note = price.table([run], {"b": found}, "v5e:16x16", 0.5)
    assert line.split()[3:5] == total.split()[1:3] == ["1,000,000", "160,000,000"]
    assert f"{found.chip_hours:.3g}" in line
    assert f"{found.chip_hours:.3g}" in total
    assert note == "chip-hours, cores and GB/s at 50% of the peak rate of v5e:16x16"
    assert header.split()[-1] == "fits"


def test_chips_of_topologies():
    assert price.chip_of("a100-80:2x8").flops == 312e12
    assert [price.host_chips(name) for name in ("h200:2x8", "v5p:4x8x8", "v6e:8x8")] == [8, 4, 8]
    for name in ("v5e", "h300:1x8", ""):
        with pytest.raises(ValueError, match=f"--topology={name}: give a chip and its network"):
            price.chip_of(name)
