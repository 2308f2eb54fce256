"""The mesh of devices that training runs on.

    data    every device along it holds the same parameters and other rows of the batch
    fsdp    splits the rows too, and with them the parameters and the optimizer's state
    tensor  kept free for splitting layers; nothing is spread over it yet
"""

from collections.abc import Sequence

import jax
from jax.sharding import AxisType, Mesh

AXES = ("data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")


def make_mesh(data: int = -1, fsdp: int = 1, tensor: int = 1, *, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh of data x fsdp x tensor devices.

    Args:
      data, fsdp, tensor: devices along each axis; one of them may be -1, for all devices that the others leave.
      devices: None for all devices of all processes.

    Raises ValueError when the sizes do not multiply to the number of devices.
    """
    devices = list(jax.devices() if devices is None else devices)
    sizes = dict(zip(AXES, (data, fsdp, tensor)))
    asked = " x ".join(f"{axis}={size}" for axis, size in sizes.items())
    if any(size == 0 or size < -1 for size in sizes.values()) or list(sizes.values()).count(-1) > 1:
        raise ValueError(f"mesh {asked}: each size is 1 or more, and one of them may be -1 for the rest")
    known = 1
    for size in sizes.values():
        known *= max(size, 1)
    rest, left_over = divmod(len(devices), known)
    if left_over or (-1 not in sizes.values() and rest != 1):
        raise ValueError(
            f"mesh {asked} is {'a multiple of ' if -1 in sizes.values() else ''}{known} devices, and there are "
            f"{len(devices)}; the sizes must multiply to {len(devices)} (-1 stands for what the others leave)"
        )
    shape = tuple(rest if size == -1 else size for size in sizes.values())
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)


def batch_shards(mesh: Mesh) -> int:
    """Into how many parts the rows of a batch are split."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def check_batch(global_batch: int, mesh: Mesh, micro_batches: int = 1) -> None:
    """Raises ValueError for a global batch whose rows do not divide evenly among devices and micro-batches."""
    shards = batch_shards(mesh)
    if global_batch < 1 or global_batch % (shards * micro_batches):
        parts = f" and {micro_batches} micro-batches" if micro_batches > 1 else ""
        raise ValueError(
            f"config.training.global_batch {global_batch} does not divide among {shards} devices "
            f"(mesh data={mesh.shape['data']} x fsdp={mesh.shape['fsdp']}){parts}; "
            f"use a multiple of {shards * micro_batches}"
        )
