"""Sizes of the captioned-shapes dataset, the configs of its TFDS builder. Imports nothing that takes time."""

import dataclasses

VERSION = "1.1.0"
SPLITS = ("train", "test", "compositional")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExtraScenes:
    """Training scenes unlike those of the full data.

    Attributes:
      start: Index of the first one. All later training records are extra scenes too.
      two_objects: Fraction that has two objects.
      recoloured: Fraction whose colors have no name.
    """

    start: int
    two_objects: float
    recoloured: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetSize:
    """Number and sort of the records of a size.

    Attributes:
      records: Number of records of each split.
      extra: Extra training scenes, if it has any.
      negative_captions: Whether each caption has a negative caption.
    """

    records: dict[str, int]
    extra: ExtraScenes | None = None
    negative_captions: bool = False


# The tiny ones are for trying things out and for tests.
DATASET_SIZES = {
    "full": DatasetSize(records={"train": 30_000, "test": 2_000, "compositional": 1_000}),
    "tiny": DatasetSize(records={"train": 96, "test": 32, "compositional": 32}),
    "contrasts": DatasetSize(
        records={"train": 60_000, "test": 2_000, "compositional": 1_000},
        extra=ExtraScenes(start=30_000, two_objects=0.7, recoloured=0.6),
        negative_captions=True,
    ),
    "contrasts_tiny": DatasetSize(
        records={"train": 192, "test": 32, "compositional": 32},
        extra=ExtraScenes(start=96, two_objects=0.7, recoloured=0.6),
        negative_captions=True,
    ),
    "recoloured": DatasetSize(
        records={"train": 60_000, "test": 2_000, "compositional": 1_000},
        extra=ExtraScenes(start=0, two_objects=0.5, recoloured=0.5),
    ),
}
