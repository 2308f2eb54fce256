"""How a tree of arrays is spread over the mesh, from their shapes alone.

Each tensor is split over `fsdp` along its largest axis that divides evenly; small ones are kept whole on every device,
where a split would save nothing and cost a message. An optimizer's moments have their parameter's shape, so they are
split as it is.
"""

import logging
import math

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from unclip_jax.arrays import PyTree
from unclip_jax.sharding.mesh import BATCH_AXES

MIN_SIZE = 4096  # numbers; a tensor with fewer stays whole
_log = logging.getLogger(__name__)


def spec(shape: tuple[int, ...], fsdp: int) -> PartitionSpec:
    """The axis of a tensor that is split over `fsdp` devices, as a PartitionSpec; empty for a tensor kept whole."""
    axes = [axis for axis, size in enumerate(shape) if size % fsdp == 0]
    if fsdp == 1 or math.prod(shape) < MIN_SIZE or not axes:
        return PartitionSpec()
    # Of equal axes the last: outputs of a layer, whose sums then need no message.
    largest = max(axes, key=lambda axis: (shape[axis], axis))
    return PartitionSpec(*[None] * largest, "fsdp")


def shardings(shapes: PyTree, mesh: Mesh) -> PyTree:
    """A NamedSharding for each leaf of a tree of arrays or shapes. Logs the large tensors that no axis can split."""
    fsdp = mesh.shape["fsdp"]

    def one(path, leaf) -> NamedSharding:
        chosen = spec(leaf.shape, fsdp)
        if fsdp > 1 and chosen == PartitionSpec() and math.prod(leaf.shape) >= MIN_SIZE:
            _log.warning("%s %s has no axis that divides by %d: kept whole on every device",
                         jax.tree_util.keystr(path, simple=True, separator="/"), leaf.shape, fsdp)
        return NamedSharding(mesh, chosen)

    return jax.tree_util.tree_map_with_path(one, shapes)


def batch(mesh: Mesh) -> NamedSharding:
    """Rows split over `data` and `fsdp`."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())
