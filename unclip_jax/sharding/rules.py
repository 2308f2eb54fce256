"""Sharding rules: how a tree of arrays is split over the mesh, based on shapes alone.

Each tensor is split over `fsdp` along its largest axis that divides evenly. Small tensors are replicated, since
splitting them would save little memory and cost communication. Optimizer moments have the shape of their parameter and
are therefore split like it.
"""

import logging
import math

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from unclip_jax.arrays import PyTree
from unclip_jax.sharding.mesh import BATCH_AXES

MIN_SIZE = 4096  # elements; smaller tensors are replicated
_log = logging.getLogger(__name__)


def spec(shape: tuple[int, ...], fsdp: int) -> PartitionSpec:
    """Returns the PartitionSpec of a tensor on `fsdp` devices, which is empty if the tensor is replicated."""
    axes = [axis for axis, size in enumerate(shape) if size % fsdp == 0]
    if fsdp == 1 or math.prod(shape) < MIN_SIZE or not axes:
        return PartitionSpec()
    # Ties go to the last axis, a layer's output features: splitting these needs no reduction across devices.
    largest = max(axes, key=lambda axis: (shape[axis], axis))
    return PartitionSpec(*[None] * largest, "fsdp")


def shardings(shapes: PyTree, mesh: Mesh) -> PyTree:
    """Returns a NamedSharding for each leaf of a tree of arrays or shapes.

    Logs a warning for each large tensor that has no divisible axis.
    """
    fsdp = mesh.shape["fsdp"]

    def one(path, leaf) -> NamedSharding:
        chosen = spec(leaf.shape, fsdp)
        if fsdp > 1 and chosen == PartitionSpec() and math.prod(leaf.shape) >= MIN_SIZE:
            _log.warning(
                "%s %s has no axis divisible by %d and is replicated.",
                jax.tree_util.keystr(path, simple=True, separator="/"),
                leaf.shape,
                fsdp,
            )
        return NamedSharding(mesh, chosen)

    return jax.tree_util.tree_map_with_path(one, shapes)


def batch(mesh: Mesh) -> NamedSharding:
    """Returns the sharding that splits rows over `data` and `fsdp`."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding that puts a full copy on every device."""
    return NamedSharding(mesh, PartitionSpec())
