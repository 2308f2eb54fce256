"""The captioned-shapes dataset as a source of records."""

import functools
from collections.abc import Iterator

from unclip_jax.data.captioned_shapes.dataset_sizes import DATASET_SIZES, VERSION
from unclip_jax.data.captioned_shapes.scene import Scene
from unclip_jax.data.captioned_shapes.scene_targets import scene_targets
from unclip_jax.data.records import Record
from unclip_jax.data.source_type import SourceType
from unclip_jax.data.spec import DataSpec

NAME = "captioned_shapes"


class CaptionedShapesSource:
    """The records of one split. The dataset is generated if it is missing.

    Args:
      split: "train", "test" or "compositional".
      directory: Parent folder of the dataset. If None, the cache folder.
      size: One of DATASET_SIZES.
      image_field: Field of the image, "image" or "thumbnail". The other one is not decoded.
      with_targets: Whether records have scene targets.

    Raises:
      ValueError: If the split or `image_field` is unknown, or `directory` cannot be created.
    """

    def __init__(self, split: str, directory: str | None, *, size: str, image_field: str, with_targets: bool):
        from unclip_jax.data.captioned_shapes.builder import data_source  # lazy: importing TFDS takes a second
        from unclip_jax.data.captioned_shapes.generation import NEGATIVE_CAPTIONS

        self._open = functools.partial(data_source, split, directory, size=size)
        self._image = image_field
        self._negatives = NEGATIVE_CAPTIONS if DATASET_SIZES[size].negative_captions else None
        self._scene = "scene" if with_targets else None
        fields = (image_field, "captions", self._negatives, self._scene)
        self._records = self._open(fields=tuple(field for field in fields if field))

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        record = self._records[index]
        return Record(
            record[self._image],
            tuple(record["captions"]),
            negative_captions=tuple(record[self._negatives]) if self._negatives else (),
            scene_targets=scene_targets(Scene.from_json(record[self._scene])) if self._scene else None,
        )

    def captions(self) -> Iterator[str]:
        """Yields every caption of every record without decoding images."""
        records = self._open(fields=("captions",))
        for index in range(len(records)):
            yield from records[index]["captions"]


def _source_type(size: str) -> SourceType:
    negatives = {"negative_captions"} if DATASET_SIZES[size].negative_captions else set()

    def open_split(spec: DataSpec, split: str) -> CaptionedShapesSource:
        return CaptionedShapesSource(
            split, spec.dir, size=size, image_field=spec.image_field, with_targets=spec.scene_targets
        )

    return SourceType(
        name=NAME if size == "full" else f"{NAME}/{size}",
        provides=frozenset({"image", "captions", "scene_targets", *negatives}),
        image_fields=("image", "thumbnail"),
        open=open_split,
        describe=lambda spec: f"{NAME}/{size} {VERSION}",
    )


TYPES = tuple(map(_source_type, DATASET_SIZES))
