"""Old names of config fields, accepted for one release in config files, overrides and the configs of workdirs."""

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
    """Returns today's name of a field, with a warning if `name` is an old one."""
    if name not in ALIASES:
        return name
    warn_renamed(f"config.{name}", f"config.{ALIASES[name]}", where="config")
    return ALIASES[name]


def renamed(sections: Mapping[str, Any], *, warn: bool) -> dict[str, Any]:
    """Returns a config's sections with today's names.

    Args:
      warn: Whether old names are warned of: not those that a workdir stores.
    """
    sections = {name: dict(section) if isinstance(section, Mapping) else section for name, section in sections.items()}
    for old, new in ALIASES.items():
        section, field = old.split(".")
        if isinstance(sections.get(section), dict) and field in sections[section]:
            value = sections[section].pop(field)
            section, field = (new_name(old) if warn else new).split(".")
            sections.setdefault(section, {})[field] = value
    return {name: section for name, section in sections.items() if name not in OLD_SECTIONS or section}
