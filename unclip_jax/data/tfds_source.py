"""Any TFDS dataset that has an image and a caption as a source of records.

    config.data.source = "tfds:coco_captions"        the name in TFDS: NAME, NAME/CONFIG, NAME/CONFIG:VERSION
    config.data.image_field = "image"                field of the image
    config.data.caption_field = "captions/text"      field of the caption or captions; "/" leads into a nested field

A dataset that is already prepared, in the file format array_record, is read directly. TFDS downloads and prepares any
other, and needs TensorFlow for some of them.
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
    """The records of one split. Images are cropped to their central square, and decoded when their record is read.

    Args:
      name: Name of the dataset in TFDS.
      split: Split in the syntax of TFDS, such as "train" or "train[:1000]".
      directory: Folder of the data. If None, that of TFDS, ~/tensorflow_datasets.
      image_field, caption_field: See above.

    Raises:
      ValueError: For an unknown dataset, split or field. The message lists the known splits or fields.
    """

    def __init__(
        self, name: str, split: str, directory: epath.PathLike | None, *, image_field: str, caption_field: str
    ):
        import tensorflow_datasets as tfds  # takes a second

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
        except Exception as error:  # of several types, depending on what is wrong with the name or the files
            known = ", ".join(builder.info.splits)
            raise ValueError(
                f"split {split!r} of {name!r} cannot be read ({first_line(error)}); known splits: {known}"
            ) from error

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        record = self._records[index]
        image = images.decode(_at(record, self._image), name=f"{self._name} record {index}")
        captions = self._captions(record)
        if not captions:
            raise ValueError("it has no caption")
        return Record(center_crop(image), captions)

    def captions(self) -> Iterator[str]:
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
    """The builder of a dataset, which is downloaded and prepared if it is missing."""
    try:
        builder = tfds.builder(name, data_dir=directory, file_format="array_record")
        if not builder.data_path.exists():
            print(f"TFDS downloads and prepares {name!r} in {builder.data_path}, once", file=sys.stderr)
            with contextlib.redirect_stdout(io.StringIO()):
                builder.download_and_prepare(file_format="array_record")
    except Exception as error:  # of several types, including those that the dataset's own code raises
        raise ValueError(f"config.data.source 'tfds:{name}' cannot be opened: {first_line(error)}") from error
    return builder


def _check_field(features: Any, field: str, path: str, name: str) -> None:
    known = list(_paths(features))
    if path not in known:
        raise ValueError(f"config.data.{field} must be a field of {name!r} ({', '.join(sorted(known))}), got {path!r}.")


def _paths(features: Any, prefix: str = "") -> Iterator[str]:
    """The paths of a features dict, such as "captions/text"; a sequence of dicts counts as a dict."""
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
