"""The study of scaling: its runs have possible settings, and what it compares is alike."""

import pytest

from benchmarks import scaling_comparisons, scaling_study
from configs import scaling
from hicmae_jax.settings import pretrain
from hicmae_jax.studies.budgets import Lengths
from hicmae_jax.studies.plan import PlannedRun
from hicmae_jax.studies.price import price


def settings(row):
    config = scaling.get_config()
    config.update_from_flattened_dict({name: value for name, value in row.items() if name != "name"})
    config.data.sets = ("data",)
    return pretrain.from_config_dict(config, "cpu")


def test_the_sizes_differ_and_no_length_is_unfit():
    runs = [settings(row) for row in scaling_study.tables()["sizes"]]
    costs = [price(PlannedRun("run"), run) for run in runs]
    assert [cost.parameters for cost in costs] == sorted({cost.parameters for cost in costs})
    assert [cost.flops_a_clip for cost in costs] == sorted({cost.flops_a_clip for cost in costs})
    steps = scaling_study.BUDGETS
    lengths = Lengths("steps", steps, steps, runs[0].optimizer.warmup_steps, 0.2, scaling_study.LEAST_DECAY)
    assert [lengths.unfit(of) for of in steps] == [None] * 4


def test_decoding_half_is_compared_for_the_same_arithmetic():
    of = {
        row["name"]: price(PlannedRun(row["name"], {}, row["steps"]), settings(row))
        for row in scaling_study.tables()["decoded"]
    }
    assert of["half"].flops_a_clip < 0.9 * of["all"].flops_a_clip
    assert of["half"].flops == pytest.approx(of["all"].flops, rel=2e-3)


def test_separate_runs_have_the_sizes_and_lengths_of_branches():
    tables = scaling_study.tables()
    sizes = [(row["model.encoder_dim"], row["model.decoder_dim"]) for row in tables["sizes"]]
    for row in tables["separate"]:
        assert (row["model.encoder_dim"], row["model.decoder_dim"]) in sizes
        assert row["steps"] in scaling_study.BUDGETS
        assert settings(row).optimizer.shape == "cosine"


def test_every_study_is_trained_and_then_reported(tmp_path):
    names = [stage.name for stage in scaling_study.stages(tmp_path, 2)]
    for study in scaling_study.STUDIES:
        assert names.index(f"train the study {study}") < names.index(f"report the study {study}")


def run(name, **columns):
    return {"run": name, "state": "done", "parameters": "1000", "steps": "150", "flops": "2e12"} | columns


def test_branches_stand_beside_separate_runs_of_their_size_and_length():
    branches = [run("a", loss="1.0"), run("b", loss="1.1"), run("c", steps="300", loss="0.9")]
    table = scaling_comparisons.branches_and_separate_runs(branches, [run("d", loss="1.25")])
    assert table.splitlines()[2:] == ["| 1,000 | 150 | 1.0500 (0.1000) | 1.2500 | -16.00 % |"]


def test_shares_that_are_decoded_stand_below_each_other():
    runs = [
        run("a", **{"masks.video_decode_fraction": "0.5"}, loss="1.0", probe_uar="0.25"),
        run("b", **{"masks.video_decode_fraction": "1.0"}, loss="1.2", probe_uar="0.3"),
        run("c", **{"masks.video_decode_fraction": "1.0"}, loss="1.4", probe_uar="0.5"),
    ]
    assert scaling_comparisons.dual_masking(runs).splitlines()[2:] == [
        "| 100 % | 150 | 2.00 | 1.3000 (0.2000) | 30.0, 50.0 |",
        "| 50 % | 150 | 2.00 | 1.0000 (0.0000) | 25.0 |",
    ]


def test_runs_that_are_not_finished_are_left_out(tmp_path):
    (tmp_path / "runs.csv").write_text("run,state\na,done\nb,failed\n")
    assert [row["run"] for row in scaling_comparisons.read_runs(tmp_path)] == ["a"]
