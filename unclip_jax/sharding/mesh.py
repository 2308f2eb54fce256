"""Device mesh for training.

Its axes are:

- data: replicates the parameters and splits the batch.
- fsdp: splits the batch, the parameters and the optimizer state.
- tensor: reserved for tensor parallelism; not used yet.
"""

from collections.abc import Sequence

import jax
from jax.sharding import AxisType, Mesh

AXES = ("data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")


def make_mesh(data: int = -1, fsdp: int = 1, tensor: int = 1, *, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Returns a mesh of data x fsdp x tensor devices.

    At most one of the sizes may be -1. It is then inferred from the number of devices.

    Args:
      data: Size of the data axis.
      fsdp: Size of the fsdp axis.
      tensor: Size of the tensor axis.
      devices: Devices of the mesh. If None, all devices of all processes.

    Raises:
      ValueError: If a size is neither positive nor -1, if more than one is -1, or if the sizes do not multiply to the
        number of devices.
    """
    devices = list(jax.devices() if devices is None else devices)
    sizes = dict(zip(AXES, (data, fsdp, tensor), strict=True))
    requested = ", ".join(f"{axis}={size}" for axis, size in sizes.items())
    if any(size == 0 or size < -1 for size in sizes.values()) or list(sizes.values()).count(-1) > 1:
        raise ValueError(f"mesh sizes must be at least 1, or -1 for at most one of them, got {requested}.")
    known = 1
    for size in sizes.values():
        known *= max(size, 1)
    rest, left_over = divmod(len(devices), known)
    if left_over or (-1 not in sizes.values() and rest != 1):
        actual = f"{'a multiple of ' if -1 in sizes.values() else ''}{known}"
        raise ValueError(
            f"mesh sizes must multiply to {len(devices)}, the number of devices, got {requested}, which is {actual}. "
            "Set one size to -1 to use all remaining devices."
        )
    shape = tuple(rest if size == -1 else size for size in sizes.values())
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)


def batch_shards(mesh: Mesh) -> int:
    """Returns the number of shards into which the rows of a batch are split."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def check_batch(global_batch: int, mesh: Mesh, micro_batches: int = 1) -> None:
    """Raises ValueError unless the global batch divides evenly among devices and micro-batches."""
    shards = batch_shards(mesh)
    if global_batch < 1 or global_batch % (shards * micro_batches):
        split = f"mesh data={mesh.shape['data']}, fsdp={mesh.shape['fsdp']}"
        split += f", {micro_batches} micro-batches" if micro_batches > 1 else ""
        raise ValueError(
            f"config.training.global_batch must be a positive multiple of {shards * micro_batches} ({split}), "
            f"got {global_batch}."
        )
