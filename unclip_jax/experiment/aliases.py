"""Deprecated names of config fields, accepted for one release.

They are accepted in config files, overrides and configs of workdirs.
"""

from collections.abc import Mapping
from typing import Any

from unclip_jax.deprecation import warn_renamed

ALIASES = {
    "frozen.clip": "encoders.clip",
    "sampling.scale": "sampling.guidance_scale",
    "data.moments": "data.scene_targets",
    "data.wrong_captions": "data.negative_captions",
    "task.colour_jitter": "task.color_jitter",
}
OLD_SECTIONS = ("frozen",)


def new_name(name: str) -> str:
    """Returns the current name of a field and warns if `name` is deprecated."""
    if name not in ALIASES:
        return name
    warn_renamed(f"config.{name}", f"config.{ALIASES[name]}", where="config")
    return ALIASES[name]


def renamed(sections: Mapping[str, Any], *, warn: bool) -> dict[str, Any]:
    """Returns the sections of a config with the current names of all fields.

    Args:
      sections: Fields by section. The argument is not changed.
      warn: Whether to warn about deprecated names. False for configs that a workdir stores.
    """
    sections = {name: dict(section) if isinstance(section, Mapping) else section for name, section in sections.items()}
    for old, new in ALIASES.items():
        section, field = old.split(".")
        if isinstance(sections.get(section), dict) and field in sections[section]:
            value = sections[section].pop(field)
            section, field = (new_name(old) if warn else new).split(".")
            sections.setdefault(section, {})[field] = value
    return {name: section for name, section in sections.items() if name not in OLD_SECTIONS or section}
