"""Captioned shapes: reproducible generated scenes of one or two flat shapes with captions.

A record has `image` (256 px, PNG), `thumbnail` (64 px, PNG), `captions` (several texts) and `scene` (the content of the
image as JSON). The config "contrasts" is for CLIP. It adds `wrong_captions`, which differ from the caption with the
same index in one false statement, and doubles the training images. Most of the extra images have two objects, and most
have colors without a name, so that CLIP learns positions, and shapes independently of colors. The config "recoloured"
is for the decoder. All its training images are extra ones, half of them in named colors.

The splits `train` and `test` contain no held-out (shape, color) pairs. `compositional` contains only such pairs.
"""

import contextlib
import fcntl
import io
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from PIL import Image

from unclip_jax.data.captioned_shapes.dataset_sizes import DATASET_SIZES, SPLITS, VERSION
from unclip_jax.data.captioned_shapes.drawing import THUMBNAIL_SIZE
from unclip_jax.data.captioned_shapes.generation import NEGATIVE_CAPTIONS, make_record
from unclip_jax.data.captioned_shapes.scene import IMAGE_SIZE
from unclip_jax.paths import default_directory

FIELDS = ("image", "thumbnail", "captions", "scene")


class CaptionedShapes(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of the dataset, with one config per size."""

    name = "captioned_shapes"
    VERSION = tfds.core.Version(VERSION)
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in DATASET_SIZES]
    pkg_dir_path = epath.Path(__file__).parent
    # Set explicitly because TFDS 4.9.10 looks for it with importlib_resources, which it does not install.
    code_path = epath.Path(__file__)

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(IMAGE_SIZE, IMAGE_SIZE, 3), encoding_format="png"),
            "thumbnail": tfds.features.Image(shape=(THUMBNAIL_SIZE, THUMBNAIL_SIZE, 3), encoding_format="png"),
            "captions": tfds.features.Sequence(tfds.features.Text()),
            "scene": tfds.features.Text(),
        }
        if DATASET_SIZES[self.builder_config.name].negative_captions:
            features[NEGATIVE_CAPTIONS] = tfds.features.Sequence(tfds.features.Text())
        features = tfds.features.FeaturesDict(features)
        return tfds.core.DatasetInfo(builder=self, features=features, description=__doc__)

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        del dl_manager  # nothing is downloaded
        return {split: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        size = self.builder_config.name
        for index in range(DATASET_SIZES[size].records[split]):
            yield index, make_record(split, index, size)


def prepare(directory: epath.PathLike | None = None, *, size: str = "full") -> epath.Path:
    """Generates the dataset, which takes about two minutes, unless it exists.

    The dataset is written atomically. If several processes need it at the same time, one generates it and the others
    wait. Remains of an interrupted process are removed. A message on stderr announces the generation.

    Args:
      directory: Parent folder. If None, `default_directory()`.
      size: One of DATASET_SIZES.

    Returns:
      The folder that contains the dataset.

    Raises:
      ValueError: If the size is unknown or the folder cannot be created.
    """
    _check_size(size)
    builder = _builder(directory, size)
    if builder.data_path.exists():
        return builder.data_path
    with _one_at_a_time(_parent(directory)):
        if not builder.data_path.exists():
            _remove_incomplete(builder.data_path)
            total = sum(DATASET_SIZES[size].records.values())
            print(
                f"Generating {total:,} captioned-shapes images in {builder.data_path} (first use only)", file=sys.stderr
            )
            # TFDS requires a download folder although nothing is downloaded.
            with _quiet(), tempfile.TemporaryDirectory() as downloads:
                builder.download_and_prepare(download_dir=downloads, file_format="array_record")
    return builder.data_path


class Records(Sequence):
    """The records of one split as a picklable sequence of dicts.

    Args:
      builder: Builder of the prepared dataset.
      split: Name of the split.
      fields: Keys of each dict. Other fields are not decoded.
    """

    def __init__(self, builder: tfds.core.DatasetBuilder, split: str, fields: Sequence[str]):
        self._fields = tuple(fields)
        # TFDS would decode both images, of which usually only one is needed.
        skip = {field: tfds.decode.SkipDecoding() for field in ("image", "thumbnail")}
        self._source = builder.as_data_source(split, decoders=skip)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Reads several records in one batch, which is faster than one by one.

        Raises:
          IndexError: If an index is out of range.
        """
        for index in indices:
            if not 0 <= index < len(self):
                raise IndexError(f"index must be from 0 to {len(self) - 1}, got {index}.")
        return [self._decode(record) for record in self._source.__getitems__(list(indices))]

    def _decode(self, record: dict[str, Any]) -> dict[str, Any]:
        return {field: _decode_field(field, record[field]) for field in self._fields}


def data_source(
    split: str,
    directory: epath.PathLike | None = None,
    *,
    size: str = "full",
    fields: Sequence[str] = FIELDS,
) -> Records:
    """Opens the records of a split. Generates the dataset first if it is missing.

    Args:
      split: One of SPLITS.
      directory: Parent folder. If None, `default_directory()`.
      size: One of DATASET_SIZES.
      fields: Keys of each record: `image` (uint8 [256, 256, 3]), `thumbnail` (uint8 [64, 64, 3]), `captions` (a list of
        str), `scene` (a str for `Scene.from_json`) and, for sizes with negative captions, `wrong_captions` (a list of
        str).

    Raises:
      ValueError: If the split, the size or a field is unknown, or if the folder cannot be created.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)} of captioned_shapes, got {split!r}.")
    _check_size(size)
    known = (*FIELDS, NEGATIVE_CAPTIONS) if DATASET_SIZES[size].negative_captions else FIELDS
    unknown = sorted(set(fields) - set(known))
    if unknown:
        raise ValueError(f"fields of captioned_shapes must be among {', '.join(known)}, got {unknown}.")
    prepare(directory, size=size)
    return Records(_builder(directory, size), split, fields)


def _parent(directory: epath.PathLike | None) -> epath.Path:
    return epath.Path(directory).expanduser() if directory is not None else default_directory()


def _check_size(size: str) -> None:
    if size not in DATASET_SIZES:
        raise ValueError(f"size must be one of {', '.join(DATASET_SIZES)}, got {size!r}.")


def _builder(directory: epath.PathLike | None, size: str) -> CaptionedShapes:
    return CaptionedShapes(data_dir=os.fspath(_parent(directory)), config=size, file_format="array_record")


def _decode_field(field: str, value: Any) -> Any:
    if field in ("image", "thumbnail"):
        return np.asarray(Image.open(io.BytesIO(value)))
    if field in ("captions", NEGATIVE_CAPTIONS):
        return [text.decode() for text in value]
    return value.decode()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences TFDS's messages on stdout and its progress bars within the block."""
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.enable_progress_bar()


@contextlib.contextmanager
def _one_at_a_time(directory: epath.Path) -> Iterator[None]:
    """Holds a file lock on the folder. The system releases it when the process ends for any reason.

    Buckets have no locks. If several processes write there, the last one wins, and all write the same bytes.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"Dataset folder {os.fspath(directory)!r} cannot be created ({error}).") from error
    if "://" in os.fspath(directory):
        yield
        return
    with open(directory / ".captioned_shapes.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove_incomplete(data_path: epath.Path) -> None:
    """Removes the remains of an interrupted process. The caller must hold the lock."""
    if data_path.parent.exists():
        for path in data_path.parent.glob(f"incomplete.*_{data_path.name}"):
            path.rmtree()
