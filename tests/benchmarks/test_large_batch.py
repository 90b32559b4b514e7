"""Variants of the large-batch experiment differ only as named; docs/large_batch.md has the right figures."""

import io
import json
import re
import subprocess
import sys
from contextlib import redirect_stdout

import numpy as np
import pytest

from benchmarks import large_batch
from hicmae_jax.settings import pretrain as run_config
from hicmae_jax.training import optimizer as optim
from tests.support.paths import ROOT

DOCS = (ROOT / "docs" / "large_batch.md").read_text(encoding="utf-8")
CLIPS = 1_091_581
"""Clips of VoxCeleb2."""


def rows(after):
    """Cells of the first table of the guide after a text."""
    table = re.search(r"(^\|.*\n)+", DOCS[DOCS.index(after) :], re.M)[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


# --- The experiment -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", large_batch.VARIANTS)
def test_variants_differ_only_in_what_their_names_say(tmp_path, name):
    variant = large_batch.VARIANTS[name]
    config = large_batch.settings(tmp_path, variant.changes(epochs=4, clips=1024))
    steps = 1024 // variant.batch
    optimizer = config.optimizer_config(steps)
    assert (config.total_steps(steps) * config.batch, optimizer.warmup_steps) == (
        4096,
        -(-410 // config.batch),
    )
    rate = float(optimizer.schedule()(optimizer.warmup_steps))
    growth = {"fixed": 1, "sqrt": (variant.batch / 32) ** 0.5, "linear": variant.batch / 32}[variant.rule]
    assert rate == pytest.approx(growth * variant.rate)
    assert variant.rate in (2e-3, 5e-4) or variant.kind == "lamb"
    others = large_batch.settings(tmp_path, large_batch.Variant(32).changes(4, 1024)).to_dict()
    mine = config.to_dict()
    assert mine["loss"] | {"negatives": "global"} == others["loss"]
    for section in ("model", "execution", "masks", "preprocess", "evaluation"):
        assert mine[section] == others[section]


@pytest.mark.slow
def test_a_variant_learns_and_is_not_trained_twice(tmp_path):
    options = (f"--root={tmp_path}", "--clips=72", "--epochs=2", "--only=32")
    command = [sys.executable, "-m", "benchmarks.large_batch", *options]
    outputs = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2)]
    line = large_batch.result_path(tmp_path, "32", 2).read_text(encoding="utf-8").strip()
    result = json.loads(line)
    assert (result["updates"], result["skipped"], result["chance@5"]) == (4, 0, 5 / 8)
    assert 0 < result["video"] < 1
    table = large_batch.table([result])
    assert all(output.endswith(f"{table}\n") for output in outputs)
    assert "making up" not in outputs[1]
    assert line not in outputs[1]


# --- The guide ----------------------------------------------------------------------------------------------


def test_updates_rates_and_warm_up_follow_from_the_rules():
    table = rows("Number of updates")
    assert len(table) == 5
    for batch, updates, linear, sqrt, log, warmup in table:
        size = int(batch.replace(",", ""))
        steps = CLIPS // size
        for rule, stated in (("linear", linear), ("sqrt", sqrt)):
            config = optim.OptimizerConfig(
                batch=size, rate_rule=rule, warmup_epochs=0, warmup_examples=5_457_600, steps_per_epoch=steps
            )
            assert f"{config.schedule()(config.warmup_steps):.2e}" == stated
            assert f"{config.warmup_steps:,}" == warmup
        assert f"{100 * steps:,}" == updates
        assert f"{np.log(size):.2f}" == log


def test_the_python_block_prints_the_figures_of_the_table():
    (block,) = re.findall(r"```python\n(.*?)```", DOCS, re.S)
    with redirect_stdout(io.StringIO()) as printed:
        exec(compile(block, "docs/large_batch.md", "exec"), {})
    found = {}
    for line in printed.getvalue().splitlines():
        clips, _, *numbers = line.split()
        found.setdefault(f"{int(clips):,}", []).extend(numbers)
    assert found == {clips: numbers for clips, *numbers in rows("| clips | unrelated")}


def test_commands_name_settings_that_exist():
    named = set(re.findall(r"--config\.([\w.]*\w)", DOCS))
    named |= set(re.findall(r"`((?:optimizer|loss|checkpoint)\.\w+)", DOCS))
    assert len(named) > 10
    assert named <= set(run_config.settings())
