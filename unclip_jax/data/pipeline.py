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
from ml_collections import ConfigDict

from unclip_jax.data import bsr
from unclip_jax.data.corruption import gaussian_blur, gaussian_noise
from unclip_jax.data.records import UNREADABLE, Record, Source, Unreadable, reason_of
from unclip_jax.data.sources import open_source
from unclip_jax.data.transforms import flipped, low_resolution, random_crop, row_rng, shrink
from unclip_jax.tokenizer import Tokenizer

READ_ATTEMPTS = 16


def default_config() -> ConfigDict:
    """The fields of `config.data`; `check` says which values go together."""
    return ConfigDict(
        {
            "source": "captioned_shapes",  # or "folder" (pictures, captions), "embeddings" (stored), "tfds:NAME"
            "dir": None,  # where the source lies; None: $UNCLIP_CACHE, or ~/.cache/unclip_jax
            "split": "train",
            "eval_split": "test",
            "image_field": "thumbnail",  # which picture of a record; shrunk to image_size where it is larger
            "caption_field": "captions",  # of a TFDS record
            "image_size": 64,
            "clip_size": None,  # side of `clip_image`; None: the batch has none
            "crop_fraction": 1.0,  # side of the crop over side of the picture
            "low_res_size": None,  # side of the whole low-resolution picture, of which `low_res` is the crop's part
            "blur": None,  # for `low_res`: {"kernel": odd pixels, "sigma": pixels, "share": of rows blurred (1.0)}
            "noise": 0.0,  # largest deviation of Gaussian noise on `low_res`, of range [-1, 1]; each row draws its own
            "bsr": 0.0,  # share of the rows whose `low_res` is degraded by BSR, and neither blurred nor noised
            "captions": False,  # whether the batch has `tokens`
            "wrong_captions": False,  # whether it has `wrong_tokens` beside them, where the source has such captions
            "moments": False,  # whether it has `moments`, where the source knows what its pictures show
            "flip": False,  # mirror every other picture
            "cache": False,  # keep decoded records in memory
            "threads": 2,  # threads that make batches; 0: made when asked for
            "workers": 0,  # processes that make batches, each with its threads; 0: this one
            "prefetch": 4,  # batches held ready
            "max_unreadable": 0.05,  # share of the records that may be unreadable, and are replaced; more end the run
        }
    )


class Pipeline:
    """Batches of one split for one process.

    Args:
      config: fields as in `default_config`; those not given have the default.
      split: of the source.
      global_batch: rows of all processes together.
      tokenizer: None where no captions are wanted.
      shuffle: False gives the records in their order.
      process_index, process_count: whose part of each global batch.
      source: the records; None opens `config.source`.
    Raises ValueError for an unknown field, or values that do not go together.
    """

    def __init__(
        self,
        config: ConfigDict,
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
        self._config = check(config)
        if global_batch < 1 or global_batch % process_count:
            raise ValueError(f"global batch {global_batch} does not divide among {process_count} processes")
        if not 0 <= seed < 2**32:
            raise ValueError(f"seed is {seed}; it must be from 0 to {2**32 - 1}")
        if self._config.captions and tokenizer is None:
            raise ValueError("config.data.captions is True and tokenizer None; captions need one")
        self._seed = seed
        self._shuffle = shuffle
        self._global_batch = global_batch
        self._process_index = process_index
        self._process_count = process_count
        self._source = source if source is not None else open_source(self._config, split)
        # Each process sees its part of an epoch, and so does each of its workers.
        readers = process_count * max(self._config.workers, 1)
        most = int(self._config.max_unreadable * len(self._source)) // readers
        self._make_row = RowMaker(self._config, self._source, seed=seed, tokenizer=tokenizer, max_unreadable=most)
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
        config = self._config
        options = grain.ReadOptions(
            num_threads=config.threads,
            prefetch_buffer_size=max(config.prefetch, config.threads) if config.threads else 0,
        )
        batches = mine.to_iter_dataset(options)
        if config.workers:
            _mark_flags_as_parsed()
            processes = grain.MultiprocessingOptions(
                num_workers=config.workers, per_worker_buffer_size=max(1, config.prefetch // config.workers)
            )
            return _watched(iter(batches.mp_prefetch(processes)), config.workers)
        return iter(batches)


class RowMaker:
    """Makes a row of (global row number, record number), by the config alone. Pickles, for worker processes.

    More unreadable records than `max_unreadable` are an error that lists them.
    """

    def __init__(
        self, config: ConfigDict, source: Source, *, seed: int, tokenizer: Tokenizer | None, max_unreadable: int
    ):
        self._source = source
        self._seed = seed
        self._tokenizer = tokenizer
        self._captions, self._wrong_captions = config.captions, config.wrong_captions
        self._moments = config.moments
        self._flip = config.flip
        self._image_size = config.image_size
        self._crop_size = _crop_size(config)
        self._clip_size = config.clip_size
        self._factor = config.image_size // config.low_res_size if config.low_res_size else None
        self._blur = config.blur.to_dict() if config.blur else None
        self._noise = config.noise
        self._bsr = config.bsr
        self._tokens: dict[str, np.ndarray] = {}
        share = config.max_unreadable
        self._unreadable = Unreadable(len(source), share, max_unreadable, ", the next replaces it")

    def __call__(self, row: int, index: int) -> dict[str, Any]:
        index, record = self._read(index)
        # Row numbers of the longest runs do not fit 32 bits; they come round, and neither crop nor caption does.
        made = {"row": np.int32(row % 2**31), "record": np.int32(index)}
        if record.embedding is not None:
            made["embedding"] = record.embedding
        else:
            made |= self._pictures(record.picture, row)
        if self._captions:
            number = row_rng(self._seed, row, "caption").integers(len(record.captions))
            made["tokens"] = self._encode(record.captions[number])
            if self._wrong_captions:
                made["wrong_tokens"] = self._encode(record.wrong_captions[number])
        if self._moments:
            made["moments"] = record.moments
        return made

    def _pictures(self, picture: np.ndarray, row: int) -> dict[str, np.ndarray]:
        if self._flip and row_rng(self._seed, row, "flip").random() < 0.5:
            picture = flipped(picture)
        image = shrink(picture, self._image_size)
        if self._crop_size < self._image_size:
            rng = row_rng(self._seed, row, "crop")
            image = random_crop(image, self._crop_size, rng, multiple=self._factor or 1)
        made = {"image": image}
        if self._clip_size:
            made["clip_image"] = shrink(picture, self._clip_size)
        if self._factor:
            made["low_res"] = self._low_res(image, row)
        return made

    def _low_res(self, image: np.ndarray, row: int) -> np.ndarray:
        """An upsampler's input. Rows that stay sharp are like what the stage before it makes when it samples."""
        if self._bsr and row_rng(self._seed, row, "corruption").random() < self._bsr:
            return bsr.degrade(image, self._factor, row_rng(self._seed, row, "bsr"))
        low_res = low_resolution(image, self._factor)
        if self._blur and row_rng(self._seed, row, "blur").random() < self._blur.get("share", 1.0):
            low_res = gaussian_blur(low_res, kernel=self._blur["kernel"], sigma=self._blur["sigma"])
        if self._noise:
            low_res = gaussian_noise(low_res, row_rng(self._seed, row, "noise"), most=self._noise)
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
        side, wanted = min(record.picture.shape[:2]), max(self._image_size, self._clip_size or 0)
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


def check(config: ConfigDict) -> ConfigDict:
    """`config` with the defaults for what it leaves out. Raises ValueError where values do not go together."""
    defaults = default_config()
    unknown = sorted(set(config) - set(defaults))
    if unknown:
        raise ValueError(f"config.data has no field {', '.join(unknown)}; known: {', '.join(defaults)}")
    config = ConfigDict({**defaults, **config})
    size, low_res = config.image_size, config.low_res_size
    for name in ("image_size", "clip_size", "low_res_size"):
        value = config[name]
        if name != "image_size" and value is None:
            continue
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"config.data.{name} is {value!r}; a positive number of pixels is wanted")
    if not 0 < config.crop_fraction <= 1 or size * config.crop_fraction != _crop_size(config):
        raise ValueError(
            f"config.data.crop_fraction {config.crop_fraction} of image_size {size} is "
            f"{size * config.crop_fraction:g} px; a whole number from 1 to {size} is wanted"
        )
    if low_res and (size % low_res or _crop_size(config) % (size // low_res)):
        raise ValueError(
            f"config.data.low_res_size {low_res} must divide image_size {size}, "
            f"and their ratio the crop of {_crop_size(config)} px"
        )
    if config.blur:
        _check_blur(config)
    if not 0.0 <= config.bsr <= 1.0:
        raise ValueError(f"config.data.bsr is {config.bsr}; a share from 0 to 1 is wanted")
    if not 0.0 <= config.noise <= 1.0:
        raise ValueError(f"config.data.noise is {config.noise}; a deviation from 0 to 1 is wanted")
    if config.noise and not config.low_res_size:
        raise ValueError("config.data.noise is set and low_res_size None; it is of the low-resolution picture")
    if config.bsr and not config.low_res_size:
        raise ValueError("config.data.bsr is set and low_res_size None; it degrades the low-resolution picture")
    if config.wrong_captions and not (config.captions and config.source.startswith("captioned_shapes/contrasts")):
        raise ValueError(
            f"config.data.wrong_captions is True with source {config.source} and captions {config.captions}; it is for "
            "captioned_shapes/contrasts with captions"
        )
    if config.moments and (config.flip or not config.source.startswith("captioned_shapes")):
        raise ValueError(
            f"config.data.moments is True with source {config.source} and flip {config.flip}; it is for "
            "captioned_shapes without flip"
        )
    if config.source == "embeddings":
        _check_without_pictures(config)
    if config.flip and config.captions:
        raise ValueError("config.data.flip is True with captions, which say left and right; one of them must be False")
    if not 0.0 <= config.max_unreadable <= 1.0:
        raise ValueError(f"config.data.max_unreadable is {config.max_unreadable}; a share from 0 to 1 is wanted")
    for name in ("threads", "workers", "prefetch"):
        if config[name] < 0:
            raise ValueError(f"config.data.{name} is {config[name]}; 0 or more is wanted")
    return config


def _check_without_pictures(config: ConfigDict) -> None:
    """Stored embeddings come without what these fields are about."""
    defaults = default_config()
    for name in ("clip_size", "low_res_size", "crop_fraction", "flip"):
        if config[name] != defaults[name]:
            raise ValueError(
                f"config.data.{name} is {config[name]} with source embeddings, which has no pictures; leave it at "
                f"{defaults[name]}"
            )


def _check_blur(config: ConfigDict) -> None:
    if not config.low_res_size:
        raise ValueError("config.data.blur is set and low_res_size None; blur is of the low-resolution picture")
    if set(config.blur) - {"share"} != {"kernel", "sigma"}:
        raise ValueError(
            f"config.data.blur has the fields {', '.join(config.blur)}; kernel and sigma are wanted, and share may be"
        )
    if not 0.0 <= config.blur.get("share", 1.0) <= 1.0:
        raise ValueError(f"config.data.blur.share is {config.blur.share}; it must be from 0 to 1")
    size = _crop_size(config) * config.low_res_size // config.image_size
    # It knows what it takes.
    gaussian_blur(np.zeros((size, size, 1)), kernel=config.blur.kernel, sigma=config.blur.sigma)


def _crop_size(config: ConfigDict) -> int:
    return round(config.image_size * config.crop_fraction)


def _mark_flags_as_parsed() -> None:
    """Grain's worker processes read absl's flags, and refuse where no absl main has parsed the command line."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
