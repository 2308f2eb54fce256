"""Names and folders that refer to a cascade."""

import importlib.resources

from etils import epath

from unclip_jax.folder_update import current

INDEX = "cascade.json"


def bundled_names() -> list[str]:
    """Returns the names of the cascades that are bundled with the package."""
    folder = _bundled()
    names = folder.iterdir() if folder.is_dir() else ()
    return sorted(path.name for path in names if (path / INDEX).is_file())


def is_bundled(folder: epath.PathLike) -> bool:
    """Returns whether the cascade in a folder is bundled with the package."""
    return epath.Path(folder).resolve().parent == epath.Path(str(_bundled())).resolve()


def is_cascade(source: epath.PathLike) -> bool:
    """Returns whether `source` is the name of a bundled cascade or a cascade folder."""
    return str(source) in bundled_names() or current(source, INDEX).exists()


def resolve(source: epath.PathLike) -> epath.Path:
    """Returns the folder of a cascade.

    Args:
      source: Name of a bundled cascade, or a cascade folder.

    Raises:
      ValueError: If `source` is neither.
    """
    if str(source) in bundled_names():
        return epath.Path(str(_bundled() / str(source)))
    if not is_cascade(source):
        known = ", ".join(bundled_names()) or "none"
        raise ValueError(
            f"cascade must be a bundled cascade or a cascade folder, got {str(source)!r}. Bundled: {known}."
        )
    return epath.Path(source)


def _bundled():
    return importlib.resources.files("unclip_jax.cascades") / "bundled"
