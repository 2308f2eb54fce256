"""Declaration of a source of records. `sources` contains the table of all sources."""

import dataclasses
from collections.abc import Callable

from unclip_jax.data.records import Source
from unclip_jax.data.spec import DataSpec


def _describe_by_name(spec: DataSpec) -> str:
    return spec.source


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceType:
    """A source of records, selected by `config.data.source`.

    Attributes:
      name: The value of `config.data.source`, or its part before the colon.
      dataset: Placeholder in messages for the part after the colon. If None, the value has no colon.
      provides: The fields of `Record` that its records have.
      image_fields: Allowed values of `config.data.image_field`. If None, they are not known in advance.
      directory: Description of the folder that `config.data.dir` must name. If None, `dir` is optional.
      open: Opens a split, given the spec and the name of the split.
      describe: Returns a description of the records for provenance, including their version if they have one.
      check_encoder: Raises ValueError unless the embeddings of the records were computed by the image encoder with
        this digest. If None, the records have no embeddings.
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
        """The allowed values of `config.data.source`, as shown in messages."""
        return self.name if self.dataset is None else f"{self.name}:{self.dataset}"
