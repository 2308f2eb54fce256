"""The mesh: its sizes, and what it says of sizes that cannot be."""

import jax
import pytest
from jax.sharding import AxisType

from unclip_jax.sharding.mesh import batch_shards, check_batch, make_mesh


@pytest.mark.parametrize(
    ("sizes", "shape"),
    [
        ({}, (8, 1, 1)),
        ({"fsdp": 2}, (4, 2, 1)),
        ({"data": 2, "fsdp": -1}, (2, 4, 1)),
        ({"data": 1, "fsdp": 4, "tensor": 2}, (1, 4, 2)),
    ],
)
def test_one_size_takes_what_the_others_leave(sizes, shape):
    mesh = make_mesh(**sizes)
    assert tuple(mesh.shape.values()) == shape
    assert mesh.axis_names == ("data", "fsdp", "tensor")
    assert mesh.axis_types == (AxisType.Auto,) * 3


def test_a_mesh_of_some_devices_holds_no_others():
    mesh = make_mesh(fsdp=2, devices=jax.devices()[2:6])
    assert list(mesh.devices.flat) == jax.devices()[2:6]
    assert batch_shards(mesh) == 4


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"fsdp": 3}, "data=-1 x fsdp=3 x tensor=1 is a multiple of 3 devices, and there are 8"),
        ({"data": 2, "fsdp": 2}, "data=2 x fsdp=2 x tensor=1 is 4 devices, and there are 8"),
        ({"data": 16}, "is 16 devices, and there are 8; the sizes must multiply to 8"),
        ({"data": -1, "fsdp": -1}, "one of them may be -1"),
        ({"data": 8, "fsdp": 0}, "each size is 1 or more"),
        ({"data": -2}, "each size is 1 or more"),
    ],
)
def test_sizes_that_do_not_multiply_to_the_devices_are_named(sizes, message):
    with pytest.raises(ValueError, match=message):
        make_mesh(**sizes)


def test_a_batch_must_divide_among_the_devices():
    mesh = make_mesh(fsdp=2)
    check_batch(48, mesh)
    check_batch(48, mesh, micro_batches=3)
    with pytest.raises(ValueError, match=r"global_batch 100 does not divide among 8 devices .*use a multiple of 8"):
        check_batch(100, mesh)
    with pytest.raises(ValueError, match="global_batch 0 does not divide"):
        check_batch(0, mesh)
    with pytest.raises(
        ValueError, match="48 does not divide among 8 devices .* and 4 micro-batches; use a multiple of 32"
    ):
        check_batch(48, mesh, micro_batches=4)
