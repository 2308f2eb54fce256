"""Batched encoding: padded batches for a single call, and data-parallel batches for whole datasets."""

import functools
from collections.abc import Callable, Sequence

import jax
import numpy as np

from unclip_jax.arrays import PyTree
from unclip_jax.sampling.rows import padded_size
from unclip_jax.sharding import rules
from unclip_jax.sharding.mesh import make_mesh
from unclip_jax.sharding.placement import replicate

ROWS = 64  # per call; per device if rows are split over devices


def in_batches(encode: Callable[[np.ndarray], PyTree], rows: np.ndarray) -> PyTree:
    """Runs `encode` on padded batches and returns the concatenated results as host arrays.

    Args:
      encode: rows -> results. The number of rows is a power of two, at most ROWS.
      rows: The rows, at least one.
    """
    results = []
    for start in range(0, len(rows), ROWS):
        batch = rows[start : start + ROWS]
        encoded = encode(_padded(batch, padded_size(len(batch), ROWS)))
        results.append(jax.tree.map(functools.partial(_first, len(batch)), encoded))
    return jax.tree.map(lambda *parts: np.concatenate(parts), *results)


def over_devices(
    encode: Callable[[PyTree, jax.Array], jax.Array], params: PyTree, devices: Sequence[jax.Device] | None = None
) -> tuple[Callable[[np.ndarray], np.ndarray], int]:
    """Returns a data-parallel encoder for whole datasets.

    Parameters are transferred to the devices once. Every batch is padded to the maximum number of rows.

    Args:
      encode: (params, rows) -> results. Must be jit-compiled.
      params: Parameters of the encoder.
      devices: Devices to use. If None, all devices of this process.

    Returns:
      A function that encodes rows into a host array, and the maximum number of rows per call.
    """
    mesh = make_mesh(devices=jax.local_devices() if devices is None else devices)
    params, limit = replicate(params, mesh.devices.ravel()), ROWS * mesh.size

    def encode_rows(rows: np.ndarray) -> np.ndarray:
        placed = jax.device_put(_padded(rows, limit), rules.batch(mesh))
        return np.asarray(encode(params, placed))[: len(rows)]

    return encode_rows, limit


def _first(count: int, rows: jax.Array) -> np.ndarray:
    return np.asarray(rows)[:count]


def _padded(rows: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)])
