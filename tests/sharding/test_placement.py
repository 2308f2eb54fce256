"""Transfer of host arrays to devices."""

import jax
import numpy as np

from unclip_jax.sharding import rules
from unclip_jax.sharding.mesh import make_mesh
from unclip_jax.sharding.placement import place, place_batch, replicate


def test_place_batch_splits_rows_over_devices():
    mesh = make_mesh(data=4, fsdp=2)
    batch = place_batch({"image": np.arange(16 * 3).reshape(16, 3), "row": np.arange(16)}, mesh)
    assert batch["image"].shape == (16, 3)
    shards = {shard.device: np.asarray(shard.data) for shard in batch["row"].addressable_shards}
    assert [shards[device].tolist() for device in mesh.devices.flat] == [[2 * i, 2 * i + 1] for i in range(8)]


def test_place_keeps_values_and_applies_shardings():
    mesh = make_mesh(fsdp=2)
    tree = {"kernel": np.random.default_rng(0).normal(size=(64, 128)), "bias": np.ones(3)}
    shardings = rules.shardings(tree, mesh)
    placed = place(tree, shardings)
    assert jax.tree.map(lambda leaf: leaf.sharding, placed) == shardings
    np.testing.assert_array_equal(placed["kernel"], tree["kernel"].astype(np.float32))


def test_replicate_copies_arrays_to_every_device():
    placed = replicate({"kernel": np.arange(6.0)}, jax.devices()[:3])
    shards = placed["kernel"].addressable_shards
    assert {shard.device for shard in shards} == set(jax.devices()[:3])
    assert all(shard.data.shape == (6,) for shard in shards)
    assert len(replicate({"kernel": np.arange(6.0)})["kernel"].addressable_shards) == 8
