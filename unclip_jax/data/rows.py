"""Conversion of records to batch rows.

A row is a function of the spec, the seed, the record and the global row number. See `unclip_jax.batches` for its
fields.
"""

from typing import Any

import numpy as np

from unclip_jax.data import bsr
from unclip_jax.data.corruption import gaussian_blur, gaussian_noise
from unclip_jax.data.records import UNREADABLE, Record, Source, Unreadable, reason_of
from unclip_jax.data.sources import source_type
from unclip_jax.data.spec import DataSpec
from unclip_jax.data.transforms import downscale, flipped, low_resolution, random_crop, row_rng
from unclip_jax.tokenizers.clip_bpe import Tokenizer

READ_ATTEMPTS = 16  # consecutive records to try before giving up


def batch_fields(spec: DataSpec) -> tuple[str, ...]:
    """Returns the names of the batch fields, except `row` and `record`, which all batches have."""
    provides = source_type(spec.source).provides
    has = {
        "image": "image" in provides,
        "embedding": "embedding" in provides,
        "clip_image": spec.clip_size is not None,
        "low_res": spec.low_res_size is not None,
        "tokens": spec.captions,
        "wrong_tokens": spec.negative_captions,
        "moments": spec.scene_targets,
    }
    return tuple(name for name in has if has[name])


class RowMaker:
    """A picklable function that converts records to rows.

    Args:
      spec: The fields of a row, and how images are prepared.
      source: The records.
      seed: Seed of all random choices.
      tokenizer: Encodes the captions. May be None if `spec.captions` is False.
      max_unreadable: Maximum number of unreadable records. Each is replaced by the next readable one.
    """

    def __init__(self, spec: DataSpec, source: Source, *, seed: int, tokenizer: Tokenizer | None, max_unreadable: int):
        self._spec = spec
        self._source = source
        self._seed = seed
        self._tokenizer = tokenizer
        self._tokens: dict[str, np.ndarray] = {}
        share = spec.max_unreadable
        self._unreadable = Unreadable(len(source), share, max_unreadable, " and is replaced by the next one")

    def __call__(self, number: int, index: int) -> dict[str, Any]:
        """Returns one row.

        Args:
          number: Global row number, on which all random choices depend.
          index: Index of the record. If it cannot be read, the next readable record is used.

        Raises:
          ValueError: If too many records are unreadable, or if a record lacks a field that the spec requires.
        """
        index, record = self._read(index)
        # Row numbers wrap at 2**31. The random generators use the full number.
        row = {"row": np.int32(number % 2**31), "record": np.int32(index)}
        if record.embedding is not None:
            row["embedding"] = record.embedding
        if record.image is not None:
            row |= self._images(record.image, number)
        if self._spec.captions:
            captions = _required(record, "captions")
            choice = row_rng(self._seed, number, "caption").integers(len(captions))
            row["tokens"] = self._encode(captions[choice])
            if self._spec.negative_captions:
                row["wrong_tokens"] = self._encode(_required(record, "negative_captions")[choice])
        if self._spec.scene_targets:
            row["moments"] = _required(record, "scene_targets")
        return row

    def _images(self, full: np.ndarray, number: int) -> dict[str, np.ndarray]:
        spec = self._spec
        if spec.flip and row_rng(self._seed, number, "flip").random() < 0.5:
            full = flipped(full)
        image = downscale(full, spec.image_size)
        if spec.crop_size < spec.image_size:
            rng = row_rng(self._seed, number, "crop")
            image = random_crop(image, spec.crop_size, rng, multiple=spec.low_res_factor or 1)
        images = {"image": image}
        if spec.clip_size is not None:
            images["clip_image"] = downscale(full, spec.clip_size)
        if spec.low_res_size is not None:
            images["low_res"] = self._low_res(image, number)
        return images

    def _low_res(self, image: np.ndarray, number: int) -> np.ndarray:
        """Returns the low-resolution input. Rows without blur resemble the output of the previous stage."""
        spec = self._spec
        if spec.bsr and row_rng(self._seed, number, "corruption").random() < spec.bsr:
            return bsr.degrade(image, spec.low_res_factor, row_rng(self._seed, number, "bsr"))
        low_res = low_resolution(image, spec.low_res_factor)
        if spec.blur and row_rng(self._seed, number, "blur").random() < spec.blur.share:
            low_res = gaussian_blur(low_res, kernel=spec.blur.kernel, sigma=spec.blur.sigma)
        if spec.noise:
            low_res = gaussian_noise(low_res, row_rng(self._seed, number, "noise"), max_std=spec.noise)
        return low_res

    def _read(self, index: int) -> tuple[int, Record]:
        """Returns the record at `index`, or the next readable one, with its index."""
        failed = {}
        for attempt in range(min(READ_ATTEMPTS, len(self._source))):
            candidate = (index + attempt) % len(self._source)
            try:
                record = self._source[candidate]
                self._check_size(record)
            except UNREADABLE as error:
                failed[candidate] = reason_of(error)
                continue
            for unreadable, reason in failed.items():
                self._unreadable.add(unreadable, reason)
            return candidate, record
        last = list(failed.values())[-1]
        raise ValueError(
            f"{len(failed)} consecutive records starting at {index} cannot be read. The last error was: {last}"
        )

    def _check_size(self, record: Record) -> None:
        if record.image is None:
            return
        size, required = min(record.image.shape[:2]), max(self._spec.image_size, self._spec.clip_size or 0)
        if size < required:
            raise ValueError(f"image is {size} px, smaller than the required {required} px. Images are never upscaled.")

    def _encode(self, caption: str) -> np.ndarray:
        """Encodes a caption. The tokens of every distinct caption are cached."""
        tokens = self._tokens.get(caption)
        if tokens is None:
            tokens = self._tokens[caption] = self._tokenizer.encode([caption])[0]
        return tokens


def _required(record: Record, name: str) -> Any:
    """Returns a field of a record, which the field of DataSpec with the same name requires."""
    value = getattr(record, name)
    if value is None or len(value) == 0:
        raise ValueError(f"config.data.{name} needs records with {name}, and a record of this source has none.")
    return value
