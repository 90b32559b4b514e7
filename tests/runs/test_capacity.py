"""Sizes that this machine cannot hold are refused at once; whatever may be possible is not."""

import os

import jax
import pytest

from hicmae_jax.model import shapes, sizes
from hicmae_jax.model.config import MaskConfig
from hicmae_jax.runs import capacity, machine
from hicmae_jax.runs.capacity import check_capacity, check_scoring, least_parameters
from tests.support import shrunk_recipe

GB = 10**9


@pytest.fixture
def host(monkeypatch):
    """A host of 16 GB that allows 10,000 tasks, with one CPU device."""
    monkeypatch.setattr(machine, "memory_bytes", lambda: 16 * GB)
    monkeypatch.setattr(machine, "tasks", lambda: 10_000)
    monkeypatch.setattr(jax, "local_device_count", lambda: 1)


IMPOSSIBLE = {
    "workers": (
        {"data__workers": 1000},
        "data.workers = 1,000: the processes take at least 80 GB, and this host has 16.0 GB: use fewer",
    ),
    "processes": (
        {"data__workers": 20_000},
        "data.workers = 20,000, data.threads = 1: 40,000 processes and threads are more than the 10,000 that",
    ),
    "threads": (
        {"data__threads": 10**9, "batch": 8000, "data__prefetch": 2},
        "data.workers = 0, data.threads = 1,000,000,000: 16,000 processes and threads are more than the",
    ),
    "encoder": ({"model__encoder_dim": 10**9}, "model.encoder_dim = 1,000,000,000, encoder_depth = 2, "),
    "encoder's depth": (
        {"model__encoder_depth": 10**9},
        "model.encoder_dim = 16, encoder_depth = 1,000,000,000",
    ),
    "decoder": (
        {"model__decoder_dim": 10**9},
        "model.encoder_dim = 16, encoder_depth = 2, decoder_dim = 1,000,",
    ),
    "decoder's depth": (
        {"model__decoder_depth": 10**9},
        "model.encoder_dim = 16, encoder_depth = 2, decoder_d",
    ),
    "fusion": ({"model__fusion_depth": 10**9}, "model.encoder_dim = 16, "),
    "far beyond 64 bits": ({"model__encoder_dim": 10**30}, "model.encoder_dim = 1,000,000,000,000,"),
    "batch": (
        {"batch": 10**9},
        "batch = 1,000,000,000, data.prefetch = 2, data.workers = 0: the clips that are",
    ),
    "prefetch": (
        {"data__prefetch": 10**9},
        "batch = 8, data.prefetch = 1,000,000,000, data.workers = 0: the",
    ),
    "picture": ({"model__image_size": 16 * 10**6}, "batch = 8, "),
    "frames": ({"model__frames": 2 * 10**9}, "batch = 8, "),
    "sound": ({"model__audio_frames": 16 * 10**9}, "batch = 8, "),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_an_impossible_size_is_one_line_at_once(host, name):
    changes, line = IMPOSSIBLE[name]
    config = shrunk_recipe.config(**changes)
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        check_capacity(config)
    assert str(refused.value).startswith(line)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"data__workers": 390},  # 31.2 GB, less than twice the memory
        {"data__threads": 10**9},  # no more start than there are clips to read
        {"model__encoder_dim": 4096},  # 14 GB
        {"batch": 500_000},  # 20 GB
    ],
)
def test_what_may_be_possible_is_not_refused(host, changes):
    check_capacity(shrunk_recipe.config(**changes))


def test_an_evaluation_of_too_many_clips_at_a_time_is_one_line(host):
    model = sizes.model_config("B")
    check_scoring("evaluation.batch", 50_000, model)  # 19 GB, less than twice the memory
    with pytest.raises(
        ValueError, match=r"^evaluation\.batch: the 1,000,000 clips .* 389 GB, and this host has 16\.0"
    ):
        check_scoring("evaluation.batch", 10**6, model)


@pytest.mark.parametrize("size", ["T", "g"])
def test_the_estimate_is_a_little_below_the_truth(size):
    model = sizes.model_config(size)
    exact = shapes.pretrain_parameters(model, MaskConfig())
    assert 0.85 * exact < least_parameters(model) < exact


@pytest.mark.parametrize("size", sizes.SIZES)
def test_every_size_may_be_tried_on_a_small_machine(host, size):
    state = capacity.STATE_BYTES * least_parameters(sizes.model_config(size))
    assert state < capacity.SAFETY * machine.memory_bytes()


def test_devices_hold_the_state_where_they_have_memory_of_their_own(host, monkeypatch):
    big = {"model__encoder_dim": 65_536, "model__encoder_depth": 2}
    monkeypatch.setattr(machine, "device_bytes", lambda: 80 * GB)
    check_capacity(shrunk_recipe.config(fsdp=32, **big))
    with pytest.raises(
        ValueError, match=r"take at least 3,711 GB, and each device has 80\.0 GB: choose a small"
    ):
        check_capacity(shrunk_recipe.config(**big))


# --- What the machine has -----------------------------------------------------------------------------------


def write(root, **files):
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_machine_without_limits_has_what_is_installed(tmp_path):
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert machine.memory_bytes(tmp_path) == installed
    (tmp_path / "sys/fs/cgroup/job").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/job/memory.max").write_text("max\n")
    write(tmp_path, proc__self__cgroup="0::/job\n")
    assert machine.memory_bytes(tmp_path) == installed


@pytest.mark.parametrize("where", ["job/step", "job", ""])
def test_the_least_limit_of_the_groups_that_hold_the_process_counts(tmp_path, where):
    """Version 2 of the control groups; in a container the process sees only the top."""
    write(tmp_path, proc__self__cgroup="0::/job/step\n")
    group = tmp_path / "sys/fs/cgroup" / where
    group.mkdir(parents=True)
    (group / "memory.max").write_text("1000000\n")
    (group / "pids.max").write_text("77\n")
    assert machine.memory_bytes(tmp_path) == 1_000_000
    assert machine.tasks(tmp_path) == 77


def test_version_1_of_the_control_groups(tmp_path):
    write(tmp_path, proc__self__cgroup="4:memory:/job\n3:cpu,cpuacct:/\n2:pids:/\n1:name=systemd:/\n0::/\n")
    for name, text in (
        ("memory/job/memory.limit_in_bytes", "2000000"),
        ("memory/memory.limit_in_bytes", "9223372036854771712"),
        ("pids/pids.max", "max"),
    ):
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert machine.memory_bytes(tmp_path) == 2_000_000


def test_this_machine_has_memory():
    assert GB / 10 < machine.memory_bytes() < 10**15
    assert machine.tasks() is None or machine.tasks() > 10
    assert machine.device_bytes() is None  # tests run on the CPU
