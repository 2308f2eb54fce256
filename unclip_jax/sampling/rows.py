"""Rows on devices: images are spread over the local devices, padded to few sizes, and run in chunks by pmap.

Every row has a key of its own, from the seed, the stage's name, the index of its image and of its candidate. An image
therefore does not depend, except for rounding, on the images and devices that it is sampled with.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from unclip_jax import rng
from unclip_jax.arrays import Int, PyTree, UInt32
from unclip_jax.sharding.placement import replicated, row_sharded

# (stage, steps done, steps in all) -> None
Progress = Callable[[str, int, int], None]
# Rows per device at a time, by the longer side of an image; other rows count as the smallest images.
ROWS_PER_DEVICE = {16: 256, 64: 64, 256: 16, 1024: 1}


@dataclasses.dataclass(frozen=True, eq=False)
class SampleRequest:
    """Which samples to generate.

    Attributes:
      seed: Seed of all noise, in [0, 2**32), or one per row.
      image_ids: Index of each row's image; image i of a seed has the same noise in every call.
      candidate_ids: Index of each row among the candidates for its image. If None, each is the first.
      devices: Local devices that sample. If None, all of this process.
      progress: Called with the stage's name, the steps done and all steps.
    """

    seed: int | Sequence[int]
    image_ids: Int["N"]
    candidate_ids: Int["N"] | None = None
    devices: Sequence[jax.Device] | None = None
    progress: Progress | None = None

    def row_ids(self, stage: str) -> dict[str, np.ndarray]:
        """Returns what the keys of the rows are made from, see `row_keys`."""
        candidates = np.zeros(len(self.image_ids)) if self.candidate_ids is None else self.candidate_ids
        return {
            "stage_key": _stage_keys(self.seed, stage, len(self.image_ids)),
            "image": np.asarray(self.image_ids, np.int32),
            "candidate": np.asarray(candidates, np.int32),
        }

    def all_devices(self) -> tuple[jax.Device, ...]:
        """Returns the devices that sample."""
        return tuple(jax.local_devices() if self.devices is None else self.devices)


def row_keys(row_ids: PyTree) -> jax.Array:
    """Returns the key of every row. To be called within a compiled program."""
    keys = jax.random.wrap_key_data(row_ids["stage_key"])
    keys = jax.vmap(jax.random.fold_in)(keys, row_ids["image"])
    return jax.vmap(jax.random.fold_in)(keys, row_ids["candidate"])


def rows_per_device(shape: tuple[int, ...]) -> int:
    """Returns the number of rows of `shape` that a device holds at a time."""
    side = max(shape[:2]) if len(shape) == 3 else 0
    return next((rows for largest, rows in ROWS_PER_DEVICE.items() if side <= largest), 1)


def padded_size(rows: int, limit: int) -> int:
    """Returns the next power of two, at most `limit`: few sizes, so that few programs are compiled."""
    return min(1 << max(rows - 1, 0).bit_length(), limit)


@dataclasses.dataclass(frozen=True)
class Chunks:
    """How N rows are split into calls: `size` rows on each of `devices` per call.

    Attributes:
      total: N.
    """

    total: int
    size: int
    devices: tuple[jax.Device, ...]

    @classmethod
    def of(cls, total: int, limit: int, devices: tuple[jax.Device, ...]) -> "Chunks":
        """Splits `total` rows over `devices`, of which each takes at most `limit` at a time."""
        return cls(total, padded_size(-(-total // len(devices)), limit), devices)

    def __len__(self) -> int:
        return -(-self.total // (self.size * len(self.devices)))

    def spread(self, rows: PyTree) -> Iterator[PyTree]:
        """Yields every chunk of a tree of host arrays, padded with its last row, on its devices."""
        per_call = self.size * len(self.devices)
        for start in range(0, self.total, per_call):
            last = min(start + per_call, self.total) - 1
            picked = np.minimum(np.arange(start, start + per_call), last)

            def one(x, picked=picked) -> np.ndarray:
                x = np.asarray(x)[picked]
                return x.reshape(len(self.devices), self.size, *x.shape[1:])

            yield jax.device_put(jax.tree.map(one, rows), row_sharded(self.devices))

    def join(self, chunks: Sequence[PyTree]) -> PyTree:
        """Returns the results of all chunks, "devices size ..." each, as host arrays without padding."""

        def one(*parts) -> np.ndarray:
            whole = np.concatenate([np.asarray(part).reshape(-1, *part.shape[2:]) for part in parts])
            return whole[: self.total]

        return jax.tree.map(one, *chunks)


def place_shared(tree: PyTree, devices: Sequence[jax.Device]) -> PyTree:
    """Puts arrays on every device, once: host arrays would be copied again for every call."""
    return jax.device_put(tree, replicated(devices))


def _stage_keys(seed: int | Sequence[int], stage: str, rows: int) -> UInt32["N 2"]:
    if isinstance(seed, int | np.integer):
        return np.broadcast_to(_stage_key(int(seed), stage), (rows, 2))
    made = {one: _stage_key(int(one), stage) for one in dict.fromkeys(seed)}
    return np.stack([made[one] for one in seed])


def _stage_key(seed: int, stage: str) -> np.ndarray:
    return np.asarray(jax.random.key_data(rng.named(jax.random.key(seed), stage)))
