"""Where records come from: a name in the config becomes a random-access sequence of records."""

import functools
from collections.abc import Iterator

from ml_collections import ConfigDict

from unclip_jax.data.captioned_shapes.moments import moments
from unclip_jax.data.captioned_shapes.scene import Scene
from unclip_jax.data.embedding_store import EmbeddingStore, read_manifest
from unclip_jax.data.image_folder import ImageFolder
from unclip_jax.data.records import Record, Source
from unclip_jax.data.tfds_source import PREFIX, TfdsSource

SIZES = ("full", "tiny", "contrasts", "contrasts_tiny", "recoloured")
KNOWN = ("captioned_shapes", *(f"captioned_shapes/{size}" for size in SIZES[1:]), "folder", "embeddings", "tfds:NAME")


def open_source(config: ConfigDict, split: str) -> Source:
    """The records of one split of `config.source`, which prepares itself where it is not there yet.

    Reads of `config`: `source`, `dir`, `image_field` (of captioned_shapes and TFDS), `caption_field` (of TFDS),
    `moments` (of captioned_shapes), and `cache`, which keeps decoded records in memory. Raises ValueError for an
    unknown source, split or field, and for a folder that is not what `image_folder` says.
    """
    if config.source.startswith(PREFIX):
        fields = {"image_field": config.image_field, "caption_field": config.caption_field}
        source = TfdsSource(config.source.removeprefix(PREFIX), split, config.dir, **fields)
    elif config.source not in KNOWN:
        raise ValueError(f"config.data.source {config.source!r} is unknown; known: {', '.join(KNOWN)}")
    elif config.source in ("folder", "embeddings"):
        if not config.dir:
            holds = "of pictures" if config.source == "folder" else "that `unclip prepare-data embeddings` wrote"
            raise ValueError(f"config.data.dir is None; source {config.source} needs the folder {holds}")
        source = (ImageFolder if config.source == "folder" else EmbeddingStore)(config.dir, split)
    else:
        fields = {"image_field": config.image_field, "moments": config.get("moments", False)}
        source = CaptionedShapesSource(split, config.dir, size=_size(config.source), **fields)
    return CachedSource(source) if config.get("cache") else source


def describe(config: ConfigDict) -> str:
    """Which records `config.source` names, with their version where they have one: "captioned_shapes/full 1.0.0". Of
    stored embeddings, those that they were made of."""
    if config.source == "embeddings":
        return f"embeddings of {read_manifest(config.dir)['data']}"
    if not config.source.startswith("captioned_shapes"):
        return config.source
    from unclip_jax.data.captioned_shapes import builder

    return f"captioned_shapes/{_size(config.source)} {builder.CaptionedShapes.VERSION}"


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
