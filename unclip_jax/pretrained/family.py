"""A family of published weights, and what it is given to open."""

import dataclasses
from collections.abc import Callable, Mapping

from etils import epath

from unclip_jax.pretrained.lazy_tensor import LazyTensor
from unclip_jax.pretrained.published import Published


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """A file or folder that may contain a published model.

    Attributes:
      path: The file or folder.
      tensors: The tensors of a file by name, not loaded yet. Empty for a folder, and for a file in an unknown format.
      clip: The CLIP to use if the model does not include one.
    """

    path: epath.Path
    tensors: Mapping[str, LazyTensor] = dataclasses.field(default_factory=dict)
    clip: Published | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightFamily:
    """Models that share their file names and tensor names.

    Attributes:
      name: The name, such as "GLIDE".
      description: The files that the family recognizes, for the message about an unknown source.
      files: Shell patterns of the files that the family reads from a hub repository in addition to those of
        `hub.wanted`.
      matches: Returns whether a source is a model of the family.
      open: Returns the model, with the stages of `source.clip` if it needs them. Raises ValueError if the model cannot
        be used, and KeyError for a tensor or setting that is missing although every model of the family has it.
    """

    name: str
    description: str
    files: tuple[str, ...] = ()
    matches: Callable[[Source], bool]
    open: Callable[[Source], Published]
