"""Compiling a step for absent chips: wrong command lines, lack of memory, the compiler itself."""

import importlib.util
import json
import subprocess
import sys
import types
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
from jax.experimental import topologies

from configs import pretrain as recipe
from hicmae_jax.aot import compile as aot_compile
from hicmae_jax.aot import fit_memory, topology
from hicmae_jax.aot.gpu_targets import TARGETS
from hicmae_jax.model import shapes
from hicmae_jax.runs import build
from hicmae_jax.settings import pretrain as run_config
from hicmae_jax.training import chips
from hicmae_jax.training.chips import GIB
from launch import aot, command
from tests.support import tpu_compiler
from tests.support.step_figures import FIGURES


def given(**changes):
    config = recipe.get_config("mu")
    with config.unlocked():
        config.update_from_flattened_dict({"batch": 32, "loss.negatives": "global"} | changes)
    return config


def run(monkeypatch, config, **options):
    options = {"topology": "v5e:2x2", "json": None, "text": None, "search": True} | options
    monkeypatch.setattr(aot, "FLAGS", types.SimpleNamespace(config=config, **options))
    return command.call("aot", aot.main, [])


def refusal(capsys):
    line, *more = capsys.readouterr().err.splitlines()
    assert more == []
    return line


@pytest.fixture
def four_devices(monkeypatch):
    devices = jax.devices()[:4]
    monkeypatch.setattr(topology, "devices", lambda name: devices)
    return devices


# --- Mistakes -----------------------------------------------------------------------------------------------


def installed(monkeypatch, is_installed):
    found = importlib.util.find_spec

    def find(name, *rest):
        compilers = ("libtpu", "jax_cuda12_plugin", "jax_cuda13_plugin")
        return is_installed or None if name in compilers else found(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", find)
    monkeypatch.setattr(topology, "_ENVIRONMENT", {"tpu": {}, "cuda": {}})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v5e:2x2", "the TPU compiler is not installed: pip install 'hicmae_jax[tpu]' (it needs no TPU)"),
        (
            "h200:1x8",
            "the GPU compiler is not installed: pip install 'hicmae_jax[cuda]' (6 GB; it needs no GPU)",
        ),
    ],
)
def test_without_the_compiler_the_message_says_what_to_install(monkeypatch, capsys, name, message):
    installed(monkeypatch, False)
    assert run(monkeypatch, given(), topology=name) == 1
    assert refusal(capsys) == f"aot: {message}"


@pytest.mark.parametrize("kind", [ValueError, jax.errors.JaxRuntimeError])
def test_an_unknown_topology_is_one_line(monkeypatch, capsys, kind):
    def refuse(platform, topology_name):
        raise kind(f"Unable to find {topology_name}.\nAnd much more.")

    installed(monkeypatch, True)
    monkeypatch.setattr(topologies, "get_topology_desc", refuse)
    assert run(monkeypatch, given(), topology="v5x:2") == 1
    assert refusal(capsys) == (
        "aot: topology 'v5x:2' is not known (Unable to find v5x:2.): give one such as v5e:16x16, v5p:4x8x8, "
        "v6e:16x16; or of GPUs, such as h200:1x8, h100:1x8, a100-80:1x8, b200:1x8"
    )


@pytest.mark.parametrize("name", ["h200", "h200:8", "h200:0x8", "h200:1x8x2", "h200:1xeight", "h200:1x99999"])
def test_hosts_of_gpus_that_cannot_be_are_one_line(monkeypatch, capsys, name):
    installed(monkeypatch, True)
    assert run(monkeypatch, given(), topology=name) == 1
    assert refusal(capsys) == (
        f"aot: topology '{name}' is not known: give the hosts and the GPUs of a host, such as h200:2x8"
    )


@pytest.mark.parametrize("kind", sorted(TARGETS))
def test_a_topology_of_gpus_is_described_to_the_compiler(monkeypatch, kind):
    def described(platform, target_config, topology):
        return types.SimpleNamespace(devices=(platform, target_config, topology))

    installed(monkeypatch, True)
    monkeypatch.setattr(topologies, "get_topology_desc", described)
    platform, target, sides = topology.devices(f"{kind}:3x8")
    assert (platform, sides) == ("cuda", "1x3x8")
    assert topology.platform(f"{kind}:3x8") == "cuda"
    # Braces that close, and the figures of the same GPU as in the table of rates.
    assert target.count("{") == target.count("}") > 2
    device = types.SimpleNamespace(device_kind=TARGETS[kind].device)
    assert f'device_description_str: "{device.device_kind}"' in target
    chip = chips.chip(device)
    assert chip.bandwidth == pytest.approx(TARGETS[kind].bandwidth, rel=0.05)
    assert chip.memory == pytest.approx(chips.RESERVED * TARGETS[kind].memory, rel=1e-4)
    assert chip.links
    assert chip.network


@pytest.mark.parametrize("option", ["json", "text"])
def test_a_missing_directory_is_found_before_compiling(monkeypatch, capsys, tmp_path, option):
    file = tmp_path / "nowhere" / "out"
    assert run(monkeypatch, given(), **{option: str(file)}) == 1
    assert refusal(capsys) == f"aot: {file} cannot be written: there is no directory {file.parent}"


def test_a_batch_that_does_not_divide_is_one_line(monkeypatch, capsys, four_devices):
    assert run(monkeypatch, given(batch=30)) == 1
    assert refusal(capsys) == (
        "aot: batch 30 / accumulate 1, 30 clips, does not divide over 4 devices: choose a batch that is a "
        "multiple of 4"
    )


# --- Memory -------------------------------------------------------------------------------------------------


class Refusing:
    """A step that the compiler does not compile."""

    def __init__(self, message):
        self.message = message

    def lower(self, *args):
        return self

    def compile(self, compiler_options):
        raise jax.errors.JaxRuntimeError(self.message)


def compile_refused(monkeypatch, devices, message):
    monkeypatch.setattr(build, "abstract_run", lambda *args: (None, None))
    monkeypatch.setattr(build, "make_step", lambda *args: Refusing(message))
    config = run_config.from_config_dict(given(**{"data.sets": ("any",)}), "tpu")
    aot_compile.compile_step(config, devices)


@pytest.mark.parametrize(
    ("message", "needed", "available"),
    [
        ("Used 43.38G of 31.25G hbm. Exceeded hbm capacity by 12.13G.", 43.38 * GIB, 31.25 * GIB),
        ("Used 900.50M of 15.75G hbm.", 900.5 * 2**20, 15.75 * GIB),
        (
            "Ran out of memory on HBM, the total memory required for HLO temporaries (21.95G) "
            "exceeds available HBM (15.75G).",
            21.95 * GIB,
            15.75 * GIB,
        ),
        ("It should not be.\n\nUsed 1.5T of 95.74G hbm.", 1.5 * 2**40, 95.74 * GIB),
    ],
)
def test_needed_and_available_memory_are_read_from_the_compilers_message(
    monkeypatch, four_devices, message, needed, available
):
    start = "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. "
    start = "RESOURCE_EXHAUSTED: " if message.startswith("Ran out") else start
    with pytest.raises(aot_compile.DoesNotFitError) as refused:
        compile_refused(monkeypatch, four_devices, start + message)
    assert (refused.value.needed, refused.value.available) == (needed, available)


def step_of(platform, kind, total):
    """A lowered step that the compiler compiles; it needs `total` bytes."""
    memory = types.SimpleNamespace(
        argument_size_in_bytes=total // 2,
        output_size_in_bytes=total // 2,
        alias_size_in_bytes=total // 2,
        temp_size_in_bytes=total - total // 2,
        generated_code_size_in_bytes=0,
    )
    compiled = types.SimpleNamespace(memory_analysis=lambda: memory)
    lowered = types.SimpleNamespace(compile=lambda compiler_options: compiled)
    lowered.lower = lambda *args: lowered
    return lowered, [types.SimpleNamespace(platform=platform, device_kind=kind)] * 4


@pytest.mark.parametrize(
    ("platform", "kind", "total", "fits"),
    [
        ("gpu", "NVIDIA H200 141GB HBM3e", 106 * GIB, False),
        ("gpu", "NVIDIA H200 141GB HBM3e", 105 * GIB, True),
        ("gpu", "NVIDIA A100-SXM4-80GB", 60 * GIB, False),
        ("gpu", "another GPU", 10**15, True),
        ("tpu", "TPU v5", 106 * GIB, True),  # that compiler refuses by itself
    ],
)
def test_a_step_that_the_gpu_compiler_compiles_may_not_fit(monkeypatch, platform, kind, total, fits):
    lowered, devices = step_of(platform, kind, total)
    mesh = types.SimpleNamespace(devices=np.array(devices))
    monkeypatch.setattr(aot_compile.sharding, "make_mesh", lambda *args: mesh)
    monkeypatch.setattr(build, "check_batch_divides", lambda *args: None)
    monkeypatch.setattr(aot_compile.compiler_options, "check", lambda *args: None)
    monkeypatch.setattr(aot_compile, "abstract_batch", lambda *args: None)
    monkeypatch.setattr(build, "abstract_run", lambda *args: (None, None))
    monkeypatch.setattr(build, "make_step", lambda *args: lowered)
    config = run_config.from_config_dict(given(**{"data.sets": ("any",)}), "cuda")
    if fits:
        assert aot_compile.memory(aot_compile.compile_step(config, devices))["total"] == total
        return
    with pytest.raises(aot_compile.DoesNotFitError) as refused:
        aot_compile.compile_step(config, devices)
    assert (refused.value.needed, refused.value.available) == (total, chips.chip(devices[0]).memory)


def test_another_error_of_the_compiler_is_not_changed(monkeypatch, four_devices):
    with pytest.raises(jax.errors.JaxRuntimeError, match="memory space vmem"):
        compile_refused(
            monkeypatch, four_devices, "Ran out of memory in memory space vmem. Used 1G of 1M vmem"
        )


KEPT = 100 * 2**20  # a clip; each recomputed stack halves it
STATE = 8 * GIB


@pytest.fixture
def estimates(monkeypatch):
    def kept(model, masks, execution):
        stacks = (execution.remat_encoder, execution.remat_decoder, execution.remat_fusion)
        return KEPT >> stacks.count("full")

    monkeypatch.setattr(fit_memory, "activation_bytes", kept)
    monkeypatch.setattr(fit_memory, "_state_bytes", lambda config, devices: STATE)


def plain(**changes):
    nothing = {f"execution.remat_{name}": "none" for name in ("encoder", "decoder", "fusion")}
    return run_config.from_config_dict(
        given(**nothing | {"data.sets": ("any",), "execution.scan_encoders": False} | changes), "tpu"
    )


ENCODER = "--config.execution.remat_encoder=full"
DECODER = f"{ENCODER} --config.execution.remat_decoder=full"
FUSION = f"{DECODER} --config.execution.remat_fusion=full"


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        # With 8 clips a chip at 100 MiB, recomputing saves 400, 600 and 700 MiB; fsdp saves 4 and 6 GiB;
        # micro-batches save 400, 600 and 700 MiB. A change is tried if it saves 0.8 of what is missing.
        (450, [ENCODER, DECODER, FUSION, *(f"--config.accumulate={n}" for n in (2, 4, 8))]),
        (700, [DECODER, FUSION, *(f"--config.accumulate={n}" for n in (4, 8))]),
        (800, [FUSION, "--config.accumulate=8"]),
        (5 * 1024, []),
        (7 * 1024, []),
    ],
)
def test_changes_that_may_save_enough_come_smallest_first(estimates, four_devices, missing, expected):
    found = [options for options, _ in fit_memory.changes(plain(), four_devices, missing * 2**20)]
    fsdp = 4 if missing > 5 * 1024 else 2
    split = found.index(f"--config.fsdp={fsdp}")
    batches = [f"--config.batch={batch}" for batch in (16, 8, 4)]
    after = next((n for n, name in enumerate(expected) if "accumulate" in name), len(expected))
    assert found == [*expected[:after], f"--config.fsdp={fsdp}", *expected[after:], *batches]
    assert split == after


def test_the_configuration_of_a_change_is_the_one_its_options_give(estimates, four_devices):
    changes = dict(fit_memory.changes(plain(), four_devices, 450 * 2**20))
    assert changes[DECODER].execution.remat_encoder == changes[DECODER].execution.remat_decoder == "full"
    assert changes[DECODER].execution.remat_fusion == "none"
    assert changes["--config.fsdp=2"].fsdp == 2
    assert changes["--config.accumulate=4"].accumulate == 4
    assert changes["--config.batch=8"].batch == 8


def test_the_first_change_that_fits_ends_the_search(monkeypatch, capsys, estimates, four_devices):
    tried = []

    def compile_step(config, devices):
        tried.append(config)
        if config.fsdp == 1:
            raise aot_compile.DoesNotFitError((20 - len(tried)) * GIB, 15.75 * GIB)
        return "a step"

    error = aot_compile.DoesNotFitError(16.2 * GIB, 15.75 * GIB)
    monkeypatch.setattr(fit_memory, "compile_step", compile_step)
    monkeypatch.setattr(aot, "FLAGS", types.SimpleNamespace(search=True))
    change = aot._find_change(plain(), four_devices, error)
    output = capsys.readouterr()
    assert output.out.splitlines() == [
        "does not fit: 16.20 of 15.75 GiB a chip",
        f"with        {ENCODER}: does not fit: 19.00 of 15.75 GiB a chip",
        f"with        {DECODER}: does not fit: 18.00 of 15.75 GiB a chip",
        f"with        {FUSION}: does not fit: 17.00 of 15.75 GiB a chip",
    ]
    assert change == "--config.fsdp=2, which was compiled and fits"
    assert len(tried) == 4


def test_without_a_search_the_first_estimate_is_printed(monkeypatch, capsys, estimates, four_devices):
    error = aot_compile.DoesNotFitError(20 * GIB, 15.75 * GIB)

    def compile_step(config, devices):
        raise error

    monkeypatch.setattr(aot_compile, "compile_step", compile_step)
    assert run(monkeypatch, given(**{"data.sets": ("any",)}), search=False) == 1
    assert refusal(capsys) == (
        "aot: does not fit: 20.00 of 15.75 GiB a chip; try --config.fsdp=2, by an estimate of what that saves"
    )


def test_bytes_of_the_state(four_devices):
    config = plain()
    parameters = sum(
        leaf.size for leaf in jax.tree.leaves(shapes.abstract_parameters(config.model, config.masks))
    )
    # Parameters, a gradient and two moments in float32, and a few counters.
    assert 0 <= fit_memory._state_bytes(config, four_devices) - 4 * 4 * parameters < 1000


# --- The compiler -------------------------------------------------------------------------------------------


@pytest.mark.slow  # minutes, nearly all of them in the compiler
@tpu_compiler.needs_libtpu
def test_scanned_and_unrolled_encoders_have_about_the_same_figures(tmp_path):
    def compiled(name, *changes):
        file = tmp_path / f"{name}.json"
        command = [
            *(sys.executable, "-m", "launch.aot", "--config=pretrain:mu", "--config.batch=32"),
            *("--config.loss.negatives=global", "--topology=v5e:2x2", f"--json={file}", *changes),
        ]
        done = subprocess.run(command, capture_output=True, text=True, env=tpu_compiler.environment())
        assert done.returncode == 0, done.stderr
        return json.loads(file.read_text())

    options = ("--config.execution.scan_encoders=false", "--config.execution.remat_encoder=full")
    with ThreadPoolExecutor() as pool:
        commands = pool.submit(compiled, "scanned"), pool.submit(compiled, "unrolled", *options)
        scanned, unrolled = (command.result() for command in commands)
    for found in (scanned, unrolled):
        assert set(FIGURES) <= set(found)
        assert (found["chips"], found["clips_per_chip"], found["unknown_loops"]) == (4, 8, [])
        assert 0 < found["hbm_per_chip"]["share"] < 1
        assert found["roofline"]["bound"] in ("memory", "arithmetic")
        # The program recomputes activations, which the model's count leaves out.
        assert 1 < found["flops_per_clip"] / found["analytic_flops_per_clip"] < 1.5
        kinds = {message["kind"] for message in found["collectives"]}
        assert {"all-reduce", "all-gather"} <= kinds
    for name in ("flops_per_clip", "hbm_bytes_per_clip"):
        assert scanned[name] == pytest.approx(unrolled[name], rel=0.25), name
    # The compiler's own count takes a loop's body once. The four small layers of `mu` are a few percent.
    assert scanned["cost_analysis"]["flops"] < 0.98 * unrolled["cost_analysis"]["flops"]
