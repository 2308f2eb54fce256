"""Configs with changed fields."""

import dataclasses

from unclip_jax.training.spec import RunSpec


def changed(config: RunSpec, **fields) -> RunSpec:
    """Returns `config` with other values, as in `changed(config, training__steps=7)`."""
    for name, value in fields.items():
        section, field = name.split("__")
        config = dataclasses.replace(
            config, **{section: dataclasses.replace(getattr(config, section), **{field: value})}
        )
    return config


def run_spec(**fields) -> RunSpec:
    """Returns the default settings with other values."""
    return changed(RunSpec(), **fields)
