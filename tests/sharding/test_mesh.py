"""Device mesh: inferred sizes and errors for invalid sizes."""

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
def test_mesh_infers_one_axis_size(sizes, shape):
    mesh = make_mesh(**sizes)
    assert tuple(mesh.shape.values()) == shape
    assert mesh.axis_names == ("data", "fsdp", "tensor")
    assert mesh.axis_types == (AxisType.Auto,) * 3


def test_mesh_contains_only_the_given_devices():
    mesh = make_mesh(fsdp=2, devices=jax.devices()[2:6])
    assert list(mesh.devices.flat) == jax.devices()[2:6]
    assert batch_shards(mesh) == 4


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"fsdp": 3}, "must multiply to 8, the number of devices, got data=-1, fsdp=3, tensor=1, which is a multiple"),
        ({"data": 2, "fsdp": 2}, "must multiply to 8, the number of devices, got data=2, fsdp=2, tensor=1, which is 4"),
        ({"data": 16}, "which is 16. Set one size to -1 to use all remaining devices"),
        ({"data": -1, "fsdp": -1}, "or -1 for at most one of them, got data=-1, fsdp=-1"),
        ({"data": 8, "fsdp": 0}, "mesh sizes must be at least 1"),
        ({"data": -2}, "mesh sizes must be at least 1"),
    ],
)
def test_invalid_mesh_sizes_are_rejected(sizes, message):
    with pytest.raises(ValueError, match=message):
        make_mesh(**sizes)


def test_indivisible_global_batch_is_rejected():
    mesh = make_mesh(fsdp=2)
    check_batch(48, mesh)
    check_batch(48, mesh, micro_batches=3)
    with pytest.raises(
        ValueError, match=r"global_batch must be a positive multiple of 8 \(mesh data=4, fsdp=2\), got 100"
    ):
        check_batch(100, mesh)
    with pytest.raises(ValueError, match="global_batch must be a positive multiple of 8 .*, got 0"):
        check_batch(0, mesh)
    with pytest.raises(ValueError, match="multiple of 32 .*, 4 micro-batches.*, got 48"):
        check_batch(48, mesh, micro_batches=4)
