"""Where records come from: a name in the config becomes a random-access sequence of records."""

import functools
from collections.abc import Iterator

from unclip_jax.data.captioned_shapes.moments import moments
from unclip_jax.data.captioned_shapes.scene import Scene
from unclip_jax.data.embedding_store import EmbeddingStore, read_manifest
from unclip_jax.data.image_folder import ImageFolder
from unclip_jax.data.records import Record, Source
from unclip_jax.data.spec import EMBEDDINGS, SHAPES, DataSpec
from unclip_jax.data.tfds_source import PREFIX, TfdsSource

SIZES = ("full", "tiny", "contrasts", "contrasts_tiny", "recoloured")
KNOWN = (SHAPES, *(f"{SHAPES}/{size}" for size in SIZES[1:]), "folder", EMBEDDINGS, "tfds:NAME")


def open_source(spec: DataSpec, split: str) -> Source:
    """Opens one split of `spec.source`, which is generated first if it can be and is missing.

    Raises:
      ValueError: For an unknown source, split or field, or a folder that is not as `image_folder` says.
    """
    if spec.source.startswith(PREFIX):
        fields = {"image_field": spec.image_field, "caption_field": spec.caption_field}
        source = TfdsSource(spec.source.removeprefix(PREFIX), split, spec.dir, **fields)
    elif spec.source not in KNOWN:
        raise ValueError(f"config.data.source {spec.source!r} is unknown; known: {', '.join(KNOWN)}")
    elif spec.source in ("folder", EMBEDDINGS):
        if not spec.dir:
            holds = "of pictures" if spec.source == "folder" else "that `unclip prepare-data embeddings` wrote"
            raise ValueError(f"config.data.dir is None; source {spec.source} needs the folder {holds}")
        source = (ImageFolder if spec.source == "folder" else EmbeddingStore)(spec.dir, split)
    else:
        fields = {"image_field": spec.image_field, "moments": spec.scene_targets}
        source = CaptionedShapesSource(split, spec.dir, size=_size(spec.source), **fields)
    return CachedSource(source) if spec.cache else source


def describe(spec: DataSpec) -> str:
    """Which records `spec.source` names, with their version where they have one: "captioned_shapes/full 1.0.0". Of
    stored embeddings, those that they were made of."""
    if spec.source == EMBEDDINGS:
        return f"embeddings of {read_manifest(spec.dir)['data']}"
    if not spec.source.startswith(SHAPES):
        return spec.source
    from unclip_jax.data.captioned_shapes import builder

    return f"{SHAPES}/{_size(spec.source)} {builder.CaptionedShapes.VERSION}"


def _size(source: str) -> str:
    return source.partition("/")[2] or "full"


class CaptionedShapesSource:
    """The generated scenes. Of the two pictures in a record only the wanted one is decoded."""

    IMAGE_FIELDS = ("image", "thumbnail")

    def __init__(self, split: str, directory: str | None, *, size: str, image_field: str, moments: bool):
        if image_field not in self.IMAGE_FIELDS:
            known = ", ".join(self.IMAGE_FIELDS)
            raise ValueError(f"config.data.image_field {image_field!r} is unknown; captioned_shapes has {known}")
        from unclip_jax.data.captioned_shapes import builder  # brings TFDS, which takes a second

        self._open = functools.partial(builder.data_source, split, directory, size=size)
        self._wrong = [builder.WRONG] if size in builder.CONTRASTS else []
        self._scene = ["scene"] if moments else []
        self._records = self._open(fields=(image_field, "captions", *self._wrong, *self._scene))
        self._image_field = image_field

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        record = self._records[index]
        return Record(
            record[self._image_field],
            tuple(record["captions"]),
            wrong_captions=tuple(text for field in self._wrong for text in record[field]),
            moments=moments(Scene.from_json(record["scene"])) if self._scene else None,
        )

    def captions(self) -> Iterator[str]:
        records = self._open(fields=("captions",))
        for index in range(len(records)):
            yield from records[index]["captions"]


class CachedSource:
    """Keeps every record that was read. Captioned shapes in full take 0.4 GB at 64 px, and 6 GB at 256 px."""

    def __init__(self, source: Source):
        self._source = source
        self._seen: dict[int, Record] = {}

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Record:
        record = self._seen.get(index)
        if record is None:
            record = self._seen[index] = self._source[index]
        return record

    def captions(self) -> Iterator[str]:
        return self._source.captions()

    def __getstate__(self) -> dict:
        return {"_source": self._source, "_seen": {}}  # a worker process fills its own
