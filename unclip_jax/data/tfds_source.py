"""TFDS datasets with images and captions as a source of records.

    config.data.source = "tfds:coco_captions"        name in TFDS: NAME, NAME/CONFIG or NAME/CONFIG:VERSION
    config.data.image_field = "image"                field of the image
    config.data.caption_field = "captions/text"      field of the caption or captions; "/" separates nested fields

Datasets that are already prepared in the file format array_record are read directly. TFDS downloads and prepares all
others, and needs TensorFlow for some of them.
"""

import contextlib
import io
import sys
from collections.abc import Iterator
from typing import Any

from etils import epath

from unclip_jax import images
from unclip_jax.data.records import Record
from unclip_jax.data.source_type import SourceType
from unclip_jax.data.spec import DataSpec
from unclip_jax.data.transforms import center_crop
from unclip_jax.errors import first_line

NAME = "tfds"


class TfdsSource:
    """The records of one split, with images cropped to their central square.

    Images are decoded when their record is read. Reading raises ValueError if a record has no caption or its image
    cannot be decoded.

    Args:
      name: Name of the dataset in TFDS.
      split: Split in TFDS syntax, such as "train" or "train[:1000]".
      directory: TFDS data directory. If None, the default of TFDS, ~/tensorflow_datasets.
      image_field: Path of the image field, such as "image".
      caption_field: Path of the caption field, such as "captions/text".

    Raises:
      ValueError: If the dataset, the split or a field is unknown. The message lists the available splits or fields.
    """

    def __init__(
        self, name: str, split: str, directory: epath.PathLike | None, *, image_field: str, caption_field: str
    ):
        import tensorflow_datasets as tfds  # lazy: takes a second

        builder = _prepared(tfds, name, directory)
        for field, value in (("image_field", image_field), ("caption_field", caption_field)):
            _check_field(builder.info.features, field, value, name)
        self._image, self._caption = image_field.split("/"), caption_field.split("/")
        self._name = f"{name} {split}"
        skip = tfds.decode.SkipDecoding()
        for part in reversed(self._image):
            skip = {part: skip}
        try:
            self._records = builder.as_data_source(split, decoders=skip)
        except Exception as error:  # TFDS raises many types, depending on the cause
            available = ", ".join(builder.info.splits)
            raise ValueError(
                f"Split {split!r} of {name!r} cannot be read ({first_line(error)}). Available splits: {available}."
            ) from error

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        record = self._records[index]
        image = images.decode(_at(record, self._image), name=f"{self._name} record {index}")
        captions = self._captions(record)
        if not captions:
            raise ValueError("the record has no caption")
        return Record(center_crop(image), captions)

    def captions(self) -> Iterator[str]:
        """Yields every caption of every record without decoding images."""
        for index in range(len(self)):
            yield from self._captions(self._records[index])

    def _captions(self, record: dict[str, Any]) -> tuple[str, ...]:
        value = _at(record, self._caption)
        texts = [value] if isinstance(value, bytes | str) else list(value)
        texts = [text.decode() if isinstance(text, bytes) else str(text) for text in texts]
        return tuple(text.strip() for text in texts if text.strip())


def _open(spec: DataSpec, split: str) -> TfdsSource:
    name = spec.source.removeprefix(f"{NAME}:")
    return TfdsSource(name, split, spec.dir, image_field=spec.image_field, caption_field=spec.caption_field)


TYPE = SourceType(name=NAME, dataset="NAME", provides=frozenset({"image", "captions"}), open=_open)


def _prepared(tfds: Any, name: str, directory: epath.PathLike | None) -> Any:
    """Returns the builder of a dataset. Downloads and prepares the dataset if it is missing."""
    try:
        builder = tfds.builder(name, data_dir=directory, file_format="array_record")
        if not builder.data_path.exists():
            print(f"Downloading and preparing {name!r} in {builder.data_path} (first use only)", file=sys.stderr)
            with contextlib.redirect_stdout(io.StringIO()):
                builder.download_and_prepare(file_format="array_record")
    except Exception as error:  # of any type, because the code of the dataset runs as well
        raise ValueError(f"config.data.source 'tfds:{name}' cannot be opened: {first_line(error)}") from error
    return builder


def _check_field(features: Any, field: str, path: str, name: str) -> None:
    known = list(_paths(features))
    if path not in known:
        raise ValueError(f"config.data.{field} must be a field of {name!r} ({', '.join(sorted(known))}), got {path!r}.")


def _paths(features: Any, prefix: str = "") -> Iterator[str]:
    """Yields the paths of a features dict, such as "captions/text". A sequence of dicts counts as a dict."""
    inner = getattr(features, "feature", features)
    if not hasattr(inner, "items"):
        yield prefix
        return
    for name, feature in inner.items():
        yield from _paths(feature, f"{prefix}/{name}" if prefix else name)


def _at(value: Any, path: list[str]) -> Any:
    for part in path:
        value = [entry[part] for entry in value] if isinstance(value, list) else value[part]
    return value
