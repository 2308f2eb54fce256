"""What diffusers' config.json says and the networks here can only have in one way."""

from collections.abc import Mapping
from typing import Any


def check_config(config: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raises ValueError, with key and values, where the configuration has another value than the wanted one.

    A key that is not there has diffusers' default, which is the wanted value of every key that is checked here.
    """
    for key, value in wanted.items():
        if config.get(key, value) != value:
            name = config.get("_class_name", "the network")
            raise ValueError(f"{name} has {key} {config[key]!r}, and the network here knows {value!r} alone")
