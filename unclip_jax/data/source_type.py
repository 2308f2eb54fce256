"""What a source of records declares about itself. The table of sources is in `sources`."""

import dataclasses
from collections.abc import Callable

from unclip_jax.data.records import Source
from unclip_jax.data.spec import DataSpec


def _describe_by_name(spec: DataSpec) -> str:
    return spec.source


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceType:
    """A value of `config.data.source`, or all values "NAME:..." that name a dataset.

    Attributes:
      name: The value, or its part before the colon.
      dataset: Placeholder for the part after the colon in messages. If None, there is no such part.
      provides: The fields of `Record` that its records have.
      image_fields: Allowed values of `config.data.image_field`. If None, they are not known in advance.
      directory: Description of the folder that `config.data.dir` must name. If None, `dir` may be None.
      open: Opens a split.
      describe: Returns a description of the records for provenance, with their version if they have one.
      check_encoder: If records have an embedding, checks that an image encoder with the given digest computed it.
    """

    name: str
    dataset: str | None = None
    provides: frozenset[str]
    image_fields: tuple[str, ...] | None = None
    directory: str | None = None
    open: Callable[[DataSpec, str], Source]
    describe: Callable[[DataSpec], str] = _describe_by_name
    check_encoder: Callable[[DataSpec, str], None] | None = None

    @property
    def pattern(self) -> str:
        """The values that it stands for, as messages list them."""
        return self.name if self.dataset is None else f"{self.name}:{self.dataset}"
