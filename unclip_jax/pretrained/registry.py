"""Registry of the families of published weights.

Other packages add families with `FAMILIES.register(family.name, family)` or with entry points of the group
`unclip_jax.weight_families`. The entry points are loaded when no registered family matches a source.
"""

from collections.abc import Mapping

from etils import epath

from unclip_jax.errors import first_line
from unclip_jax.pretrained import hub
from unclip_jax.pretrained.clip import files as clip_files
from unclip_jax.pretrained.family import Source, WeightFamily
from unclip_jax.pretrained.glide import files as glide_files
from unclip_jax.pretrained.guided_diffusion import files as guided_diffusion_files
from unclip_jax.pretrained.karlo import files as karlo_files
from unclip_jax.pretrained.lazy_tensor import LazyTensor
from unclip_jax.pretrained.published import Published
from unclip_jax.pretrained.tensor_files import open_tensors
from unclip_jax.registry import Registry

# The first matching family opens the source. CLIP is last because its config.json is the least specific file name.
_BUILT_IN = (karlo_files.FAMILY, glide_files.FAMILY, guided_diffusion_files.FAMILY, clip_files.FAMILY)
FAMILIES: Registry[WeightFamily] = Registry(
    "weight family",
    "unclip_jax.weight_families",
    {family.name: family for family in _BUILT_IN},
    entry_type=WeightFamily,
)


def recognize(source: epath.PathLike, *, clip: epath.PathLike | None = None) -> Published:
    """Identifies a published model by its files.

    Only names and shapes of tensors are read.

    Args:
      source: A file, a folder, or a hub id.
      clip: Source of the CLIP model, for models that do not include one.

    Raises:
      ValueError: If no family matches, or if the model is damaged, incomplete or not supported. Also if `clip` is given
        for a model that does not use it.
    """
    clip_model = None if clip is None else recognize(clip)
    is_local = epath.Path(source).exists()
    path = hub.find(source, () if is_local else [pattern for family in FAMILIES.entries() for pattern in family.files])
    tensors, unreadable = _open(path)
    opened = Source(path, tensors, clip_model)
    family = next((family for family in FAMILIES.entries() if _matches(family, opened)), None)
    if family is None:
        raise _unknown(source, unreadable) from unreadable
    try:
        published = family.open(opened)
    except KeyError as error:
        raise ValueError(f"{str(source)!r} lacks {error}, which every {family.name} model has.") from error
    if clip_model is not None and clip_model.stages[0] not in published.stages:
        raise ValueError(f"{str(source)!r} ({published.family}) does not use another CLIP model. Omit {str(clip)!r}.")
    return published


def _open(path: epath.Path) -> tuple[Mapping[str, LazyTensor], ValueError | None]:
    """Returns the tensors of a file, or the error if it cannot be read."""
    if path.is_dir():
        return {}, None
    try:
        return open_tensors(path), None
    except ValueError as error:  # a family of another package may support the format
        return {}, error


def _matches(family: WeightFamily, source: Source) -> bool:
    try:
        return family.matches(source)
    except Exception as error:
        raise ValueError(
            f"weight family {family.name!r} cannot examine {str(source.path)!r} ({type(error).__name__}: "
            f"{first_line(error)})."
        ) from error


def _unknown(source: epath.PathLike, unreadable: ValueError | None) -> ValueError:
    known = ", ".join(f"{family.name} ({family.description})" for family in FAMILIES.entries())
    reason = f"{str(source)!r} is neither a folder with a cascade.json nor a known published model. Known: {known}"
    if unreadable is not None:
        reason = str(unreadable).rstrip(".")
    return ValueError(". ".join([reason, *FAMILIES.failures()]) + ".")
