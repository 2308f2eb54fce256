"""The folder for what the package keeps for its user between calls."""

import os

from etils import epath


def default_directory() -> epath.Path:
    """Where prepared data and compiled programs lie unless told otherwise: $UNCLIP_CACHE, or ~/.cache/unclip_jax."""
    return epath.Path(os.environ.get("UNCLIP_CACHE") or "~/.cache/unclip_jax").expanduser()
