"""Folders that the package keeps on the user's machine."""

import os

from etils import epath


def default_directory() -> epath.Path:
    """Returns the folder for prepared data and compiled programs: $UNCLIP_CACHE or ~/.cache/unclip_jax."""
    return epath.Path(os.environ.get("UNCLIP_CACHE") or "~/.cache/unclip_jax").expanduser()
