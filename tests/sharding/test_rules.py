"""Sharding rules, compared with axes chosen by hand."""

import logging

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from unclip_jax.sharding import rules
from unclip_jax.sharding.mesh import make_mesh


@pytest.mark.parametrize(
    ("shape", "fsdp", "spec"),
    [
        ((256, 512), 2, PartitionSpec(None, "fsdp")),  # the largest axis
        ((512, 256), 2, PartitionSpec("fsdp")),
        ((256, 256), 4, PartitionSpec(None, "fsdp")),  # ties go to the last axis
        ((3, 3, 64, 63), 2, PartitionSpec(None, None, "fsdp")),  # the largest divisible axis
        ((24, 257, 129), 2, PartitionSpec("fsdp")),
        ((255, 257), 2, PartitionSpec()),  # no divisible axis
        ((64, 32), 2, PartitionSpec()),  # too small to split
        ((), 2, PartitionSpec()),
        ((256, 512), 1, PartitionSpec()),
    ],
)
def test_largest_divisible_axis_is_split(shape, fsdp, spec):
    assert rules.spec(shape, fsdp) == spec


def test_large_tensor_is_split_and_small_tensor_is_replicated():
    mesh = make_mesh(data=2, fsdp=4)
    tree = {"large": jnp.ones((64, 128)), "small": jnp.ones(16)}
    placed = jax.device_put(tree, rules.shardings(tree, mesh))
    assert {shard.data.shape for shard in placed["large"].addressable_shards} == {(64, 32)}
    assert {shard.data.shape for shard in placed["small"].addressable_shards} == {(16,)}


def test_large_indivisible_tensor_is_logged_by_name(caplog):
    mesh = make_mesh(fsdp=2)
    shapes = {"layer": {"odd": jax.ShapeDtypeStruct((255, 257), jnp.float32), "bias": jnp.ones(7)}}
    with caplog.at_level(logging.WARNING):
        rules.shardings(shapes, mesh)
    assert [record.getMessage() for record in caplog.records] == [
        "layer/odd (255, 257) has no axis divisible by 2 and is replicated."
    ]
