"""Distribution of rows over the local devices: padding to a few batch sizes and chunking for pmap.

Each row has its own random key, derived from the seed, the name of the stage, the image index and the candidate index.
Up to rounding, an image therefore does not depend on the batch or the devices that it is sampled with.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from unclip_jax import rng
from unclip_jax.arrays import Int, PyTree, UInt32
from unclip_jax.sharding.placement import replicated, row_sharded

# (name of the stage, number of completed steps, total number of steps) -> None
Progress = Callable[[str, int, int], None]
# {longer side of an image: maximum rows per device and call}. Rows that are not images count as the smallest images.
ROWS_PER_DEVICE = {16: 256, 64: 64, 256: 16, 1024: 1}


@dataclasses.dataclass(frozen=True, eq=False)
class SampleRequest:
    """Samples to generate, one per row.

    Attributes:
      seed: Seed in [0, 2**32) for all rows, or one seed per row.
      image_ids: Image index of each row, in [0, 2**31). Image i of a seed has the same noise in every call.
      candidate_ids: Index of each row among the candidates for its image. If None, all are 0.
      devices: Local devices to use. If None, all devices of this process.
      progress: Called with the name of the stage, the number of completed steps and the total number of steps.
    """

    seed: int | Sequence[int]
    image_ids: Int["N"]
    candidate_ids: Int["N"] | None = None
    devices: Sequence[jax.Device] | None = None
    progress: Progress | None = None

    def row_ids(self, stage: str) -> dict[str, np.ndarray]:
        """Returns the argument of `row_keys` for a stage."""
        candidates = np.zeros(len(self.image_ids)) if self.candidate_ids is None else self.candidate_ids
        return {
            "stage_key": _stage_keys(self.seed, stage, len(self.image_ids)),
            "image": np.asarray(self.image_ids, np.int32),
            "candidate": np.asarray(candidates, np.int32),
        }

    def all_devices(self) -> tuple[jax.Device, ...]:
        """Returns the devices to use."""
        return tuple(jax.local_devices() if self.devices is None else self.devices)


def row_keys(row_ids: PyTree) -> jax.Array:
    """Returns the random key of every row, inside a compiled function."""
    keys = jax.random.wrap_key_data(row_ids["stage_key"])
    keys = jax.vmap(jax.random.fold_in)(keys, row_ids["image"])
    return jax.vmap(jax.random.fold_in)(keys, row_ids["candidate"])


def rows_per_device(shape: tuple[int, ...]) -> int:
    """Returns the maximum number of rows of a given shape per device and call."""
    side = max(shape[:2]) if len(shape) == 3 else 0
    return next((rows for largest, rows in ROWS_PER_DEVICE.items() if side <= largest), 1)


def padded_size(rows: int, limit: int) -> int:
    """Rounds up to a power of two, at most `limit`, so that only a few batch sizes are compiled."""
    return min(1 << max(rows - 1, 0).bit_length(), limit)


@dataclasses.dataclass(frozen=True)
class Chunks:
    """Division of N rows into chunks of equal size, each of which is one call of a pmapped function.

    Attributes:
      total: Number of rows, N.
      size: Number of rows per device and chunk.
      devices: Devices to use.
    """

    total: int
    size: int
    devices: tuple[jax.Device, ...]

    @classmethod
    def of(cls, total: int, limit: int, devices: tuple[jax.Device, ...]) -> "Chunks":
        """Splits `total` rows into chunks of at most `limit` rows per device."""
        return cls(total, padded_size(-(-total // len(devices)), limit), devices)

    def __len__(self) -> int:
        return -(-self.total // (self.size * len(self.devices)))

    def spread(self, rows: PyTree) -> Iterator[PyTree]:
        """Yields every chunk of a tree of host arrays, padded with the last row and sharded over the devices."""
        per_call = self.size * len(self.devices)
        for start in range(0, self.total, per_call):
            last = min(start + per_call, self.total) - 1
            picked = np.minimum(np.arange(start, start + per_call), last)

            def one(x, picked=picked) -> np.ndarray:
                x = np.asarray(x)[picked]
                return x.reshape(len(self.devices), self.size, *x.shape[1:])

            yield jax.device_put(jax.tree.map(one, rows), row_sharded(self.devices))

    def join(self, chunks: Sequence[PyTree]) -> PyTree:
        """Concatenates the results of all chunks, each "devices size ...", as host arrays without padding."""

        def one(*parts) -> np.ndarray:
            whole = np.concatenate([np.asarray(part).reshape(-1, *part.shape[2:]) for part in parts])
            return whole[: self.total]

        return jax.tree.map(one, *chunks)


def place_shared(tree: PyTree, devices: Sequence[jax.Device]) -> PyTree:
    """Replicates arrays on every device.

    Host arrays would be transferred again on every call.
    """
    return jax.device_put(tree, replicated(devices))


def _stage_keys(seed: int | Sequence[int], stage: str, rows: int) -> UInt32["N 2"]:
    if isinstance(seed, int | np.integer):
        return np.broadcast_to(_stage_key(int(seed), stage), (rows, 2))
    keys = {one: _stage_key(int(one), stage) for one in dict.fromkeys(seed)}
    return np.stack([keys[one] for one in seed])


def _stage_key(seed: int, stage: str) -> np.ndarray:
    return np.asarray(jax.random.key_data(rng.named(jax.random.key(seed), stage)))
