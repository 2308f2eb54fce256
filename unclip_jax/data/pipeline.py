"""The order in which rows come, and their making into batches, with Grain.

A batch is a pure function of (seed, step, global row). The records are shuffled anew in every epoch over the whole data
set, the epochs follow each other without a gap, row number r of that endless stream is in step r // global_batch, and
only then does each process take its part. So any number of processes sees the same global batches, and to go on after
step n is to open the stream at n: nothing is saved.

What is in a batch is said in `unclip_jax.batches`.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from unclip_jax.data import bsr
from unclip_jax.data.corruption import gaussian_blur, gaussian_noise
from unclip_jax.data.records import UNREADABLE, Record, Source, Unreadable, reason_of
from unclip_jax.data.sources import open_source
from unclip_jax.data.spec import DataSpec
from unclip_jax.data.transforms import flipped, low_resolution, random_crop, row_rng, shrink
from unclip_jax.tokenizers.clip_bpe import Tokenizer

READ_ATTEMPTS = 16


class Pipeline:
    """Batches of one split for one process.

    Args:
      spec: which data, and how it is prepared.
      split: of the source.
      global_batch: rows of all processes together.
      tokenizer: None where no captions are wanted.
      shuffle: False gives the records in their order.
      process_index, process_count: whose part of each global batch.
      source: the records; None opens `spec.source`.
    Raises ValueError for a batch that cannot be split, a seed out of range, or captions without a tokenizer.
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
            raise ValueError(f"global batch {global_batch} does not divide among {process_count} processes")
        if not 0 <= seed < 2**32:
            raise ValueError(f"seed is {seed}; it must be from 0 to {2**32 - 1}")
        if self._spec.captions and tokenizer is None:
            raise ValueError("config.data.captions is True and tokenizer None; captions need one")
        self._seed = seed
        self._shuffle = shuffle
        self._global_batch = global_batch
        self._process_index = process_index
        self._process_count = process_count
        self._source = source if source is not None else open_source(self._spec, split)
        # Each process sees its part of an epoch, and so does each of its workers.
        readers = process_count * max(self._spec.workers, 1)
        most = int(self._spec.max_unreadable * len(self._source)) // readers
        self._make_row = RowMaker(self._spec, self._source, seed=seed, tokenizer=tokenizer, max_unreadable=most)
        self._make_row(0, 0)  # a picture of the wrong size is found here rather than in a thread

    def __len__(self) -> int:
        """Records in the split."""
        return len(self._source)

    def batches(self, start_step: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """This process's part of the batches from `start_step` on, without end: rows process_index * n to
        (process_index + 1) * n - 1 of each global batch, n = global_batch / process_count."""
        import grain  # takes two seconds

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


class RowMaker:
    """Makes a row of (global row number, record number), by the spec alone. Pickles, for worker processes.

    More unreadable records than `max_unreadable` are an error that lists them.
    """

    def __init__(
        self, spec: DataSpec, source: Source, *, seed: int, tokenizer: Tokenizer | None, max_unreadable: int
    ):
        self._spec = spec
        self._source = source
        self._seed = seed
        self._tokenizer = tokenizer
        self._tokens: dict[str, np.ndarray] = {}
        share = spec.max_unreadable
        self._unreadable = Unreadable(len(source), share, max_unreadable, ", the next replaces it")

    def __call__(self, row: int, index: int) -> dict[str, Any]:
        index, record = self._read(index)
        # Row numbers of the longest runs do not fit 32 bits; they come round, and neither crop nor caption does.
        made = {"row": np.int32(row % 2**31), "record": np.int32(index)}
        if record.embedding is not None:
            made["embedding"] = record.embedding
        else:
            made |= self._pictures(record.picture, row)
        if self._spec.captions:
            number = row_rng(self._seed, row, "caption").integers(len(record.captions))
            made["tokens"] = self._encode(record.captions[number])
            if self._spec.negative_captions:
                made["wrong_tokens"] = self._encode(record.wrong_captions[number])
        if self._spec.scene_targets:
            made["moments"] = record.moments
        return made

    def _pictures(self, picture: np.ndarray, row: int) -> dict[str, np.ndarray]:
        spec = self._spec
        if spec.flip and row_rng(self._seed, row, "flip").random() < 0.5:
            picture = flipped(picture)
        image = shrink(picture, spec.image_size)
        if spec.crop_size < spec.image_size:
            rng = row_rng(self._seed, row, "crop")
            image = random_crop(image, spec.crop_size, rng, multiple=spec.low_res_factor or 1)
        made = {"image": image}
        if spec.clip_size is not None:
            made["clip_image"] = shrink(picture, spec.clip_size)
        if spec.low_res_size is not None:
            made["low_res"] = self._low_res(image, row)
        return made

    def _low_res(self, image: np.ndarray, row: int) -> np.ndarray:
        """An upsampler's input. Rows that stay sharp are like what the stage before it makes when it samples."""
        spec = self._spec
        if spec.bsr and row_rng(self._seed, row, "corruption").random() < spec.bsr:
            return bsr.degrade(image, spec.low_res_factor, row_rng(self._seed, row, "bsr"))
        low_res = low_resolution(image, spec.low_res_factor)
        if spec.blur and row_rng(self._seed, row, "blur").random() < spec.blur.share:
            low_res = gaussian_blur(low_res, kernel=spec.blur.kernel, sigma=spec.blur.sigma)
        if spec.noise:
            low_res = gaussian_noise(low_res, row_rng(self._seed, row, "noise"), most=spec.noise)
        return low_res

    def _read(self, index: int) -> tuple[int, Record]:
        """The record, or where it cannot be decoded the next that can, with its number."""
        failed = {}
        for attempt in range(min(READ_ATTEMPTS, len(self._source))):
            candidate = (index + attempt) % len(self._source)
            try:
                record = self._checked(self._source[candidate])
            except UNREADABLE as error:
                failed[candidate] = reason_of(error)
                continue
            for number, reason in failed.items():
                self._unreadable.add(number, reason)
            return candidate, record
        said = list(failed.values())[-1]
        raise ValueError(f"{len(failed)} records from {index} on cannot be read; the last said: {said}")

    def _checked(self, record: Record) -> Record:
        if record.picture is None:
            return record
        side, wanted = min(record.picture.shape[:2]), max(self._spec.image_size, self._spec.clip_size or 0)
        if side < wanted:
            raise ValueError(f"the picture has {side} px and is not enlarged to {wanted}")
        return record

    def _encode(self, caption: str) -> np.ndarray:
        """Each distinct caption is encoded once."""
        tokens = self._tokens.get(caption)
        if tokens is None:
            tokens = self._tokens[caption] = self._tokenizer.encode([caption])[0]
        return tokens


def _watched(batches: Iterator[dict[str, np.ndarray]], workers: int) -> Iterator[dict[str, np.ndarray]]:
    """The batches, and where a worker process died, as one does that the system takes its memory from, a line on it."""
    try:
        yield from batches
    except RuntimeError as error:
        if "Worker process" not in str(error):
            raise
        why = str(error).partition(".")[0]
        raise ChildProcessError(
            f"a process that makes batches has died (config.data.workers {workers}: {why}). Run it again to go on from "
            "the newest checkpoint; fewer workers need less memory, and 0 none of their own."
        ) from error


def _mark_flags_as_parsed() -> None:
    """Grain's worker processes read absl's flags, and refuse where no absl main has parsed the command line."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
