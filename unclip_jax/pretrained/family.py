"""Families of published weights and the sources that they open."""

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
      tensors: Lazy tensors of a file by name. Empty for a folder, and for a file in an unknown format.
      clip: The CLIP model to use if the source does not include one.
    """

    path: epath.Path
    tensors: Mapping[str, LazyTensor] = dataclasses.field(default_factory=dict)
    clip: Published | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightFamily:
    """Published models that share file names and tensor names.

    Attributes:
      name: Name of the family, such as "GLIDE".
      description: The files that the family recognizes, for the error message about an unknown source.
      files: Shell patterns of the files that the family reads from a hub repository in addition to those of
        `hub.select_files`.
      matches: Returns whether a source is a model of the family.
      open: Returns the model, with the stages of `source.clip` if it needs them. Raises ValueError if the model is not
        supported, and KeyError if it lacks a tensor or setting that every model of the family has.
    """

    name: str
    description: str
    files: tuple[str, ...] = ()
    matches: Callable[[Source], bool]
    open: Callable[[Source], Published]
