"""Transfer of host arrays to devices.

Arrays are transferred once, because compiled functions copy host arrays to the devices on every call.
"""

from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from unclip_jax.arrays import PyTree
from unclip_jax.sharding import rules


def place(tree: PyTree, shardings: PyTree) -> PyTree:
    """Transfers a tree of host arrays to the devices of a tree of shardings.

    Every process must hold the complete arrays.
    """
    if jax.process_count() == 1:
        return jax.device_put(tree, shardings)

    def one(array, sharding) -> jax.Array:
        array = np.asarray(array)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(one, tree, shardings)


def place_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Transfers this process's rows of a batch and returns the arrays of the global batch.

    The transfer is asynchronous, so it overlaps with computation on the devices.
    """
    sharding = rules.batch(mesh)
    if jax.process_count() == 1:
        return jax.device_put(batch, sharding)
    return {name: jax.make_array_from_process_local_data(sharding, rows) for name, rows in batch.items()}


def replicate(tree: PyTree, devices: Sequence[jax.Device] | None = None) -> PyTree:
    """Copies every array to each of `devices`, or to all devices of this process if None."""
    return jax.device_put(tree, replicated(jax.local_devices() if devices is None else devices))


def replicated(devices: Sequence[jax.Device]) -> NamedSharding:
    """Returns the sharding that puts a full copy on every device."""
    return rules.replicated(_row_of(devices))


def row_sharded(devices: Sequence[jax.Device]) -> NamedSharding:
    """Returns the sharding of arrays whose leading axis has one entry per device."""
    return NamedSharding(_row_of(devices), PartitionSpec("device"))


def _row_of(devices: Sequence[jax.Device]) -> Mesh:
    """Returns a one-dimensional mesh."""
    return Mesh(np.asarray(devices), ("device",))
