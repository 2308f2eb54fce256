"""Batched calls of encoders: padded to few sizes on one set of devices, or spread over all devices."""

from collections.abc import Callable, Sequence

import jax
import numpy as np

from unclip_jax.arrays import PyTree
from unclip_jax.sampling.rows import padded_size
from unclip_jax.sharding import rules
from unclip_jax.sharding.mesh import make_mesh
from unclip_jax.sharding.placement import replicate

ROWS = 64  # per call, and per device when rows are spread


def in_batches(encode: Callable[[np.ndarray], PyTree], rows: np.ndarray) -> PyTree:
    """Runs `encode` on padded batches and joins the results as host arrays."""
    results = []
    for start in range(0, len(rows), ROWS):
        batch = rows[start : start + ROWS]
        encoded = encode(_padded(batch, padded_size(len(batch), ROWS)))
        results.append(jax.tree.map(lambda x, n=len(batch): np.asarray(x)[:n], encoded))
    return jax.tree.map(lambda *parts: np.concatenate(parts), *results)


def over_devices(
    encode: Callable[[PyTree, jax.Array], jax.Array], params: PyTree, devices: Sequence[jax.Device] | None = None
) -> tuple[Callable[[np.ndarray], np.ndarray], int]:
    """Spreads the rows of an encoder over devices, for a whole dataset.

    Args:
      encode: (params, rows) -> results, compiled.
      devices: If None, all of this process.

    Returns:
      The encoder of rows, whose parameters are put on the devices once; and its largest number of rows per call.
    """
    mesh = make_mesh(devices=jax.local_devices() if devices is None else devices)
    params, limit = replicate(params, mesh.devices.ravel()), ROWS * mesh.size

    def encode_rows(rows: np.ndarray) -> np.ndarray:
        placed = jax.device_put(_padded(rows, limit), rules.batch(mesh))
        return np.asarray(encode(params, placed))[: len(rows)]

    return encode_rows, limit


def _padded(rows: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)])
