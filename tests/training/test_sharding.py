"""Where arrays live: the mesh, the rules, and a table of HiCMAE-B's whole state.

After an intended change, write the table again:

    python -m tests.training.test_sharding > tests/goldens/sharding_B.txt
"""

import dataclasses
import functools
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from configs import pretrain as recipe
from hicmae_jax.aot.hlo.collectives import collectives
from hicmae_jax.aot.hlo.program import parse
from hicmae_jax.aot.hlo.traffic import Walk
from hicmae_jax.model import shapes, sizes
from hicmae_jax.model.config import ExecutionConfig, FinetuneConfig
from hicmae_jax.model.finetune import HiCMAEFinetune
from hicmae_jax.model.hicmae import Encoder
from hicmae_jax.runs import build
from hicmae_jax.settings import pretrain as run_config
from hicmae_jax.training import optimizer as optim
from hicmae_jax.training import path_rules, sharding
from hicmae_jax.training.sharding import DATA, FSDP
from hicmae_jax.training.state import abstract_state
from tests.support import tiny_model, tpu_compiler
from tests.support.paths import GOLDENS

GOLDEN = GOLDENS / "sharding_B.txt"


def abstract_mesh(fsdp, data=1):
    """A mesh without devices, which is enough to compute shardings."""
    kinds = (jax.sharding.AxisType.Auto,) * 2
    return jax.sharding.AbstractMesh((data, fsdp), (DATA, FSDP), axis_types=kinds)


@functools.cache
def state_of_b(fsdp, kind="adamw", clip=None, **execution):
    """Shapes and shardings of the state of `configs/pretrain.py:B`."""
    settings = recipe.get_config("B")
    settings.data.sets = ("unused",)
    settings.optimizer.update({"kind": kind, "clip": clip})
    settings.execution.update(execution)
    config = run_config.from_config_dict(settings, "cpu")
    return build.abstract_run(config, config.optimizer_config(10), abstract_mesh(fsdp))[1]


def leaves(tree):
    """Path → leaf of a tree of dictionaries."""
    return flatten_dict(tree, sep="/")


def shown(leaf):
    """The shape; the mesh axis marks the dimension that it splits."""
    spec = (*leaf.sharding.spec, *[None] * len(leaf.shape))
    return "×".join(f"{size}/{axis}" if axis else str(size) for size, axis in zip(leaf.shape, spec)) or "·"


def table(fsdp=8):
    """A line for each parameter of HiCMAE-B: how it and its two Adam moments are split."""
    state = state_of_b(fsdp)
    adam = state.opt_state[0]
    first, second = leaves(adam.mu), leaves(adam.nu)
    lines = [
        f"{name:52} {shown(leaf):18} {shown(first[name]):18} {shown(second[name])}"
        for name, leaf in leaves(state.params).items()
    ]
    scalars = [leaf for leaf in jax.tree.leaves(state) if leaf.shape == ()]
    return [
        f"# configs/pretrain.py:B, fsdp = {fsdp}: 512/fsdp is a dimension of 512 split over the axis fsdp",
        f"{'# parameter':52} {'itself':18} {'first moment':18} second moment",
        *lines,
        f"# and {len(scalars)} counters, split {sorted({shown(leaf) for leaf in scalars})}",
    ]


def test_every_array_of_hicmae_b_is_split_as_the_table_says():
    assert table() == GOLDEN.read_text().splitlines()


def test_nearly_all_of_hicmae_b_is_split():
    """Arrays that every device holds whole are less than a hundredth of the state."""
    sizes = {True: 0, False: 0}
    for leaf in jax.tree.leaves(state_of_b(8)):
        sizes[FSDP in leaf.sharding.spec] += leaf.size
    assert sizes[False] < 0.01 * sizes[True]


@pytest.mark.parametrize("fsdp", [8, 256])
def test_the_layers_of_scanned_encoders_stay_on_every_device(fsdp):
    stacked = {name: leaf for name, leaf in leaves(state_of_b(fsdp).params).items() if "/blocks/" in name}
    assert len(stacked) == 2 * 13
    for name, leaf in stacked.items():
        assert leaf.shape[0] == 10
        assert [*leaf.sharding.spec, None][0] is None, name


@pytest.mark.parametrize("scanned", [True, False])
@pytest.mark.parametrize("modality", ["audio-visual", "audio", "video"])
def test_every_parameter_of_the_fine_tuning_model_is_covered(modality, scanned):
    """The rules of sharding, weight decay and layer-wise rates each cover every parameter."""
    config = tiny_model.model_config()
    model = HiCMAEFinetune(
        config, FinetuneConfig(outputs=6, modality=modality), ExecutionConfig(scan_encoders=scanned)
    )
    clips = [jnp.zeros(clip.shape, clip.dtype) for clip in shapes.abstract_clips(config, 1)]

    def initialise(key):
        return model.init(key, *clips)["params"]

    choices = optim.OptimizerConfig(steps_per_epoch=10, warmup_epochs=5, **optim.FINETUNE)
    optimizer = optim.make_optimizer(choices, jax.eval_shape(initialise, jax.random.key(0)))
    params = leaves(abstract_state(initialise, optimizer, abstract_mesh(2), scanned).params)
    weights = {name for name in params if name.endswith("_layer_weights")}
    assert len(weights) == (2 if modality == "audio-visual" else 1)
    assert {params[name].sharding.spec for name in weights} == {jax.P()}
    assert FSDP in params["head/kernel"].sharding.spec


def test_lamb_and_clipping_keep_the_same_state_as_adamw():
    """The shapes and the shardings are the same too."""
    lamb, adamw = (
        jax.tree.leaves(state_of_b(8, **choices)) for choices in ({"kind": "lamb", "clip": 1.0}, {})
    )
    assert lamb == adamw


def test_layers_that_are_not_stacked_may_be_split_in_any_dimension():
    params = leaves(state_of_b(8, scan_encoders=False, remat_encoder="none").params)
    assert shown(params["encoder/blocks_3/attn/proj/kernel"]) == "512/fsdp×512"
    assert shown(params["encoder/blocks_3/mlp/fc1/kernel"]) == "512×2048/fsdp"


@pytest.mark.parametrize(
    ("shape", "fsdp", "skip", "expected"),
    [
        ((512, 1536), 8, 0, (None, FSDP)),
        ((1536, 512), 8, 0, (FSDP,)),
        ((512, 512), 8, 0, (FSDP,)),
        ((512, 1530), 8, 0, (FSDP,)),  # the largest dimension does not divide, so the next one is split
        ((510, 1530), 8, 0, ()),  # no dimension divides, so nothing is split
        ((1024, 16, 512), 8, 1, (None, None, FSDP)),  # the first dimension is the loop over layers
        ((1024, 10, 10), 8, 1, ()),
        ((512, 512), 1, 0, ()),
        ((8,), 8, 0, (FSDP,)),
    ],
)
def test_the_largest_dimension_that_divides_is_split(shape, fsdp, skip, expected):
    leaf = jax.ShapeDtypeStruct(shape, "float32")
    tree = {
        "encoder": {"blocks": {"fc": {"kernel": leaf, "bias": leaf}}, "proj": {"kernel": leaf}},
        "step": leaf,
    }
    specs = path_rules.match(sharding.state_rules(fsdp, scan_encoders=bool(skip)), tree)
    assert specs["encoder"]["blocks"]["fc"]["kernel"] == jax.P(*expected)
    assert specs["encoder"]["blocks"]["fc"]["bias"] == jax.P()
    assert specs["step"] == jax.P()


def test_a_parameter_without_a_rule_is_an_error():
    leaf = jax.ShapeDtypeStruct((8, 8), "float32")
    tree = {"head": {"kernel": leaf, "bias": leaf, "gate": leaf}, "step": leaf}
    with pytest.raises(ValueError, match="no rule covers head/gate"):
        sharding.state_shardings(tree, abstract_mesh(2), scan_encoders=False)


def test_a_mesh_uses_all_devices_or_the_given_ones():
    assert dict(sharding.make_mesh().shape) == {DATA: 8, FSDP: 1}
    assert dict(sharding.make_mesh(fsdp=4).shape) == {DATA: 2, FSDP: 4}
    some = jax.devices()[5:1:-1]
    mesh = sharding.make_mesh(fsdp=2, devices=some)
    assert mesh.devices.ravel().tolist() == some
    assert dict(mesh.shape) == {DATA: 2, FSDP: 2}


@pytest.mark.parametrize("fsdp", [0, 3, 16])
def test_fsdp_that_does_not_divide_the_devices_is_refused(fsdp):
    with pytest.raises(ValueError, match=f"fsdp = {fsdp} does not divide the 8 devices"):
        sharding.make_mesh(fsdp)


@dataclasses.dataclass(frozen=True)
class OfASlice:
    """A device in one of several slices, with the attributes that a mesh needs."""

    id: int
    slice_index: int
    platform: str = "cpu"
    device_kind: str = "cpu"
    process_index: int = 0


def two_slices(each=4):
    """Devices of two slices, alternating."""
    return [OfASlice(i, i % 2) for i in range(2 * each)]


@pytest.mark.parametrize("fsdp", [1, 2, 4])
def test_each_copy_of_the_parameters_lies_within_one_slice(fsdp):
    devices = sharding.make_mesh(fsdp, two_slices()).devices
    assert devices.shape == (8 // fsdp, fsdp)
    assert len(set(devices.ravel())) == 8
    assert all(len({device.slice_index for device in copy}) == 1 for copy in devices)
    # Along `data`, whole slices follow each other, so a sum is first made within each slice.
    assert [device.slice_index for device in devices.ravel()] == [0] * 4 + [1] * 4


def test_parameters_split_over_more_devices_than_a_slice_has_fill_several_slices():
    devices = sharding.make_mesh(8, two_slices()).devices
    assert devices.shape == (1, 8)
    assert [device.slice_index for device in devices.ravel()] == [0] * 4 + [1] * 4


def test_fsdp_that_neither_fits_into_a_slice_nor_fills_several_is_refused():
    line = "fsdp = 4 neither fits into a slice of 6 devices nor fills several: choose a divisor or a multiple"
    with pytest.raises(ValueError, match=line):
        sharding.make_mesh(4, two_slices(6))


TOPOLOGIES = """
from jax.experimental import topologies
from hicmae_jax.training import sharding

for name, slices in (("v5e:16x16", 1), ("v5p:4x8x8", 1), ("v6e:16x16", 1), ("v5e:4x4", 2), ("v5p:4x4x4", 2)):
    of = {"num_slices": slices} if slices > 1 else {}
    devices = topologies.get_topology_desc(platform="tpu", topology_name=name, **of).devices
    for fsdp in (1, 4, 8):
        mesh = sharding.make_mesh(fsdp, devices)
        assert mesh.devices.shape == (len(devices) // fsdp, fsdp), mesh
        assert set(mesh.devices.ravel()) == set(devices)
        if slices > 1:
            assert all(len({device.slice_index for device in copy}) == 1 for copy in mesh.devices)
        rows = sharding.batch_sharding(mesh).devices_indices_map((2 * len(devices),))
        assert sorted(part.start or 0 for (part,) in rows.values()) == list(range(0, 2 * len(devices), 2))
print("arranged")
"""


@pytest.mark.slow
@tpu_compiler.needs_libtpu
def test_a_mesh_can_be_made_on_every_topology():
    """Even if its network has three axes, which a mesh of two axes must merge or split."""
    program = [sys.executable, "-c", TOPOLOGIES]
    done = subprocess.run(program, capture_output=True, text=True, env=tpu_compiler.environment())
    assert done.stdout == "arranged\n", done.stderr


@pytest.mark.parametrize("fsdp", [1, 2, 8])
def test_a_batch_is_spread_over_all_devices_in_order(fsdp):
    mesh = sharding.make_mesh(fsdp)
    spread = jax.device_put(np.arange(16), sharding.batch_sharding(mesh))
    held = {shard.device: shard.data.tolist() for shard in spread.addressable_shards}
    assert [held[device] for device in mesh.devices.ravel()] == [[2 * i, 2 * i + 1] for i in range(8)]


def test_parameters_are_gathered_and_activations_stay_on_their_device():
    """Devices gather the parts of split matrices; no activation leaves the device of its clip."""
    model = sizes.model_config("mu", encoder_depth=2, skip_layers=(1, 2))
    encoder = Encoder(model, ExecutionConfig(scan_encoders=True, remat_encoder="full"))
    mesh = sharding.make_mesh(4)
    values, positions = jnp.zeros((64, 80, model.tubelet_values)), jnp.zeros((1, 80, model.encoder_dim))

    def loss(params, values):
        last, taps = encoder.apply({"params": params}, values, positions, (1,))
        return last.sum() + taps[0].sum()

    init = functools.partial(nn.Module.init, encoder)  # its own `init` is an initialiser
    params = jax.eval_shape(lambda key: init(key, values, positions, (1,)), jax.random.key(0))["params"]
    state = {"encoder": params, "step": jax.ShapeDtypeStruct((), jnp.int32)}
    split = sharding.state_shardings(state, mesh, True)["encoder"]
    shapes = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), params, split)
    rows = jax.ShapeDtypeStruct(values.shape, values.dtype, sharding=sharding.batch_sharding(mesh))
    step = jax.jit(sharding.traced_on(mesh, jax.grad(loss)), out_shardings=split)
    messages = collectives(Walk(parse(step.lower(shapes, rows).compile().as_text())))
    gathered = {message.bytes for message in messages if message.kind == "all-gather"}
    kernels = [leaf for path, leaf in flatten_dict(params).items() if path[-1] == "kernel"]
    # One layer of a stack at a time.
    expected = {4 * leaf.size // (leaf.shape[0] if leaf.ndim == 3 else 1) for leaf in kernels}
    assert gathered == expected
    assert {message.kind for message in messages} <= {"all-gather", "all-reduce", "reduce-scatter"}


if __name__ == "__main__":
    print("\n".join(table()))
