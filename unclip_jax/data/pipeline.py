"""Deterministic shuffling and batching with Grain.

A batch is a function of (seed, step, global row). Every epoch shuffles the whole dataset again. The epochs form one
infinite stream of rows, in which row r belongs to step r // global_batch, and each process takes its part of every
step. Global batches therefore do not depend on the number of processes, and resuming after step n only requires reading
the stream from n. No iterator state is saved.
"""

from collections.abc import Iterator

import numpy as np

from unclip_jax.data.records import Source
from unclip_jax.data.rows import RowMaker
from unclip_jax.data.sources import open_source
from unclip_jax.data.spec import DataSpec
from unclip_jax.tokenizers.clip_bpe import Tokenizer


class Pipeline:
    """Batches of one split for one process.

    Args:
      spec: The source, and how its records become rows.
      split: Split of the source.
      global_batch: Number of rows per batch over all processes.
      seed: Seed of the shuffling and of all random choices in rows, from 0 to 2**32 - 1.
      tokenizer: Encodes the captions. May be None if `spec.captions` is False.
      shuffle: Whether to shuffle the records.
      process_index: Index of this process.
      process_count: Number of processes. Must divide `global_batch`.
      source: The records of the split. If None, `spec.source` is opened.

    Raises:
      ValueError: If `global_batch` or `seed` is invalid, `tokenizer` is missing, the source cannot be opened, or the
        first records are unreadable or smaller than the spec requires.
    """

    def __init__(
        self,
        spec: DataSpec,
        split: str,
        *,
        global_batch: int,
        seed: int,
        tokenizer: Tokenizer | None = None,
        shuffle: bool = True,
        process_index: int = 0,
        process_count: int = 1,
        source: Source | None = None,
    ):
        self._spec = spec
        if global_batch < 1 or global_batch % process_count:
            raise ValueError(f"global_batch must be divisible by {process_count} (processes), got {global_batch}.")
        if not 0 <= seed < 2**32:
            raise ValueError(f"seed must be from 0 to {2**32 - 1}, got {seed}.")
        if spec.captions and tokenizer is None:
            raise ValueError("tokenizer must not be None if config.data.captions is True.")
        self._seed = seed
        self._shuffle = shuffle
        self._global_batch = global_batch
        self._process_index = process_index
        self._process_count = process_count
        self._source = source if source is not None else open_source(spec, split)
        # Every worker of every process reads a part of each epoch and counts its own unreadable records.
        readers = process_count * max(spec.workers, 1)
        max_unreadable = int(spec.max_unreadable * len(self._source)) // readers
        self._make_row = RowMaker(spec, self._source, seed=seed, tokenizer=tokenizer, max_unreadable=max_unreadable)
        self._make_row(0, 0)  # raise errors about the size of images here instead of in a thread

    def __len__(self) -> int:
        """Returns the number of records in the split."""
        return len(self._source)

    def batches(self, start_step: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """Yields this process's part of every batch, starting at `start_step`. The stream is infinite.

        With n = global_batch / process_count, the part is rows process_index * n to (process_index + 1) * n - 1.

        Args:
          start_step: Step of the first batch.

        Raises:
          ValueError: If more records are unreadable than `spec.max_unreadable` allows.
          ChildProcessError: If a worker process dies.
        """
        import grain  # lazy: takes two seconds

        records = grain.MapDataset.range(len(self._source))
        if self._shuffle:
            records = records.shuffle(seed=self._seed)
        rows = records.repeat().map_with_index(self._make_row)
        parts = rows.batch(self._global_batch // self._process_count, drop_remainder=True)
        mine = parts[start_step * self._process_count + self._process_index :: self._process_count]
        spec = self._spec
        options = grain.ReadOptions(
            num_threads=spec.threads,
            prefetch_buffer_size=max(spec.prefetch, spec.threads) if spec.threads else 0,
        )
        batches = mine.to_iter_dataset(options)
        if spec.workers:
            _mark_flags_as_parsed()
            processes = grain.MultiprocessingOptions(
                num_workers=spec.workers, per_worker_buffer_size=max(1, spec.prefetch // spec.workers)
            )
            return _watched(iter(batches.mp_prefetch(processes)), spec.workers)
        return iter(batches)


def _watched(batches: Iterator[dict[str, np.ndarray]], workers: int) -> Iterator[dict[str, np.ndarray]]:
    """Yields the batches. If a worker process dies, raises an error that explains how to continue.

    The usual cause is that the system killed it because memory ran out.
    """
    try:
        yield from batches
    except RuntimeError as error:
        if "Worker process" not in str(error):
            raise
        reason = str(error).partition(".")[0]
        raise ChildProcessError(
            f"A data-loading process has died (config.data.workers {workers}: {reason}). Run again to resume from the "
            "latest checkpoint. To use less memory, reduce config.data.workers; 0 loads data in the main process."
        ) from error


def _mark_flags_as_parsed() -> None:
    """Marks absl's flags as parsed. Otherwise Grain's worker processes fail when they read them."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
