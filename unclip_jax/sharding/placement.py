"""Host arrays onto devices, once: what is handed to compiled code as a host array is copied on every call."""

from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from unclip_jax.arrays import PyTree
from unclip_jax.sharding import rules


def place(tree: PyTree, shardings: PyTree) -> PyTree:
    """Puts a tree of host arrays, which every process holds whole, on the devices of a tree of shardings."""
    if jax.process_count() == 1:
        return jax.device_put(tree, shardings)

    def one(array, sharding) -> jax.Array:
        array = np.asarray(array)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(one, tree, shardings)


def place_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """A batch's rows, of which each process holds its own share, as arrays of the global batch. Returns at once: the
    copies go on while the devices compute."""
    sharding = rules.batch(mesh)
    if jax.process_count() == 1:
        return jax.device_put(batch, sharding)
    return {name: jax.make_array_from_process_local_data(sharding, rows) for name, rows in batch.items()}


def replicate(tree: PyTree, devices: Sequence[jax.Device] | None = None) -> PyTree:
    """A copy of every array on each of `devices` (None: this process's own)."""
    return jax.device_put(tree, replicated(jax.local_devices() if devices is None else devices))


def replicated(devices: Sequence[jax.Device]) -> NamedSharding:
    """Returns the sharding of arrays of which every device holds the whole."""
    return rules.replicated(_row_of(devices))


def row_sharded(devices: Sequence[jax.Device]) -> NamedSharding:
    """Returns the sharding of arrays whose first axis has one entry per device."""
    return NamedSharding(_row_of(devices), PartitionSpec("device"))


def _row_of(devices: Sequence[jax.Device]) -> Mesh:
    """The devices along one axis."""
    return Mesh(np.asarray(devices), ("device",))
