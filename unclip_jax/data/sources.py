"""The table of data sources, and functions that check and open them.

To add a source, write a module that defines a `SourceType`, and add it to SOURCES.
"""

from unclip_jax.data import captioned_shapes_source, embedding_store, image_folder, tfds_source
from unclip_jax.data.cached_source import CachedSource
from unclip_jax.data.records import Source
from unclip_jax.data.source_type import SourceType
from unclip_jax.data.spec import DataSpec

SOURCES = (*captioned_shapes_source.TYPES, image_folder.TYPE, embedding_store.TYPE, tfds_source.TYPE)
# Fields of DataSpec that require the field of `Record` with the same name.
_REQUESTS = ("captions", "negative_captions", "scene_targets")
# Fields of DataSpec that only affect images.
_IMAGE_SETTINGS = ("clip_size", "low_res_size", "crop_fraction", "flip")


def source_type(source: str) -> SourceType:
    """Returns the source type for a value of `config.data.source`.

    Raises:
      ValueError: If the value is unknown. The message lists the available sources.
    """
    name, colon, _ = source.partition(":")
    for entry in SOURCES:
        if entry.name == name and bool(colon) == (entry.dataset is not None):
            return entry
    known = ", ".join(entry.pattern for entry in SOURCES)
    raise ValueError(f"config.data.source must be one of {known}, got {source!r}.")


def check_source(spec: DataSpec) -> None:
    """Checks that the source supports the settings of the spec, without opening files.

    Raises:
      ValueError: If a required field is missing, or if a setting does not apply to the source. The message names the
        field of the config.
    """
    entry = source_type(spec.source)
    for name in _REQUESTS:
        if getattr(spec, name) and name not in entry.provides:
            known = ", ".join(other.pattern for other in SOURCES if name in other.provides)
            raise ValueError(f"config.data.{name} needs a source that has {name} ({known}), got source {spec.source}.")
    if "image" not in entry.provides:
        for name in _IMAGE_SETTINGS:
            value, default = getattr(spec, name), DataSpec.__dataclass_fields__[name].default
            if value != default:
                without = f"with source {spec.source}, which has no images"
                raise ValueError(f"config.data.{name} must be {default} {without}, got {value}.")
    elif entry.image_fields is not None and spec.image_field not in entry.image_fields:
        known = " or ".join(entry.image_fields)
        raise ValueError(
            f"config.data.image_field must be {known} with source {spec.source}, got {spec.image_field!r}."
        )


def check_directory(spec: DataSpec) -> None:
    """Checks that the spec has a folder if its source needs one.

    Raises:
      ValueError: If `spec.dir` is missing.
    """
    entry = source_type(spec.source)
    if entry.directory is not None and not spec.dir:
        raise ValueError(f"config.data.dir must be {entry.directory} with source {spec.source}, got {spec.dir}.")


def open_source(spec: DataSpec, split: str) -> Source:
    """Opens one split of `spec.source`.

    Missing datasets are generated (captioned shapes) or downloaded (TFDS) first.

    Args:
      spec: The source and its settings.
      split: Name of the split.

    Raises:
      ValueError: If the source, the split or a field does not exist, or the folder is missing or invalid.
    """
    check_source(spec)
    check_directory(spec)
    source = source_type(spec.source).open(spec, split)
    return CachedSource(source) if spec.cache else source


def describe(spec: DataSpec) -> str:
    """Returns a description of the source for provenance, such as "captioned_shapes/full 1.1.0"."""
    return source_type(spec.source).describe(spec)
