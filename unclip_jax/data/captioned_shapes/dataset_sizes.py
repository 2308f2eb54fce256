"""Sizes of the captioned-shapes dataset, in a module that imports quickly.

The sizes are the configs of the TFDS builder.
"""

import dataclasses

VERSION = "1.1.0"
SPLITS = ("train", "test", "compositional")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExtraScenes:
    """Training scenes with a different distribution from those of the size "full".

    Attributes:
      start: Index of the first extra scene. All later training records are extra scenes as well.
      two_objects: Fraction of the extra scenes that have two objects.
      recoloured: Fraction of the extra scenes whose colors have no name.
    """

    start: int
    two_objects: float
    recoloured: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetSize:
    """Number and distribution of the records of one size.

    Attributes:
      records: Number of records of each split.
      extra: Extra training scenes. If None, there are none.
      negative_captions: Whether each caption has a negative caption.
    """

    records: dict[str, int]
    extra: ExtraScenes | None = None
    negative_captions: bool = False


# The tiny sizes are for tests and experiments.
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
