"""Any data set of TFDS that has a picture and a caption as a source of records.

    config.data.source = "tfds:coco_captions"        as TFDS names it: NAME, NAME/CONFIG, NAME/CONFIG:VERSION
    config.data.image_field = "image"                where a record has its picture,
    config.data.caption_field = "captions/text"      and where its caption or captions; "/" leads into a nested field

What is prepared already, in the file format array_record, is read as it is. What is not is downloaded and prepared by
TFDS, which needs TensorFlow for some data sets.
"""

import contextlib
import io
import sys
from collections.abc import Iterator
from typing import Any

from etils import epath

from unclip_jax import images
from unclip_jax.data.records import Record
from unclip_jax.data.transforms import middle_square
from unclip_jax.errors import first_line

PREFIX = "tfds:"


class TfdsSource:
    """The records of one split. Pictures are cut to their middle square, and decoded when they are asked for.

    Args:
      name: of the data set, as TFDS spells it.
      split: as TFDS spells it, "train" or "train[:1000]" for example.
      directory: where the data lie; None: TFDS's own place, ~/tensorflow_datasets.
      image_field, caption_field: see above.

    Raises ValueError for a data set, split or field that is not there, with those that are.
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
        except Exception as error:  # of several types, by what is wrong with the name or the files
            known = ", ".join(builder.info.splits)
            raise ValueError(
                f"split {split!r} of {name!r} cannot be read ({first_line(error)}); known splits: {known}"
            ) from error

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        record = self._records[index]
        picture = images.decode(_at(record, self._image), name=f"{self._name} record {index}")
        captions = self._captions(record)
        if not captions:
            raise ValueError("it has no caption")
        return Record(middle_square(picture), captions)

    def captions(self) -> Iterator[str]:
        for index in range(len(self)):
            yield from self._captions(self._records[index])

    def _captions(self, record: dict[str, Any]) -> tuple[str, ...]:
        found = _at(record, self._caption)
        texts = [found] if isinstance(found, bytes | str) else list(found)
        texts = [text.decode() if isinstance(text, bytes) else str(text) for text in texts]
        return tuple(text.strip() for text in texts if text.strip())


def _prepared(tfds: Any, name: str, directory: epath.PathLike | None) -> Any:
    """The builder of a data set, which is downloaded and prepared where it is not there."""
    try:
        builder = tfds.builder(name, data_dir=directory, file_format="array_record")
        if not builder.data_path.exists():
            print(f"TFDS downloads and prepares {name!r} in {builder.data_path}, once", file=sys.stderr)
            with contextlib.redirect_stdout(io.StringIO()):
                builder.download_and_prepare(file_format="array_record")
    except Exception as error:  # of several types, and of what the data set's own code raises
        raise ValueError(f"config.data.source 'tfds:{name}' cannot be opened: {first_line(error)}") from error
    return builder


def _check_field(features: Any, field: str, path: str, name: str) -> None:
    known = list(_paths(features))
    if path not in known:
        raise ValueError(f"config.data.{field} {path!r} is no field of {name!r}; known: {', '.join(sorted(known))}")


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
