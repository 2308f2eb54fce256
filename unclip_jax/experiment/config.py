"""Config files and command-line overrides.

A config has these sections:

    task       kind (clip, diffusion_prior, decoder or upsampler), stage (its name in a cascade), low_res_size,
               mask_channels, and the options of the kind
    model      fields of the network
    encoders   source of the frozen encoder of each role: name of a bundled cascade, cascade folder, folder of a stage
               in it, or hub id
    diffusion  `diffusion.spec.DiffusionSpec`
    sampling   `diffusion.settings.SamplingSettings`: default sampling settings of the stage
    data       `data.spec.DataSpec`
    optimizer, training, mesh   `training.spec`
"""

import dataclasses
import runpy
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from unclip_jax import fields
from unclip_jax.data.spec import DataSpec
from unclip_jax.diffusion.spec import DiffusionSpec
from unclip_jax.experiment.aliases import OLD_SECTIONS, new_name, renamed
from unclip_jax.experiment.spec import SECTIONS, TASK_TYPES, ExperimentConfig, check_data, parse, trainable_kind
from unclip_jax.models.network import field_types
from unclip_jax.training.spec import MeshSpec, OptimizerSpec, TrainingSpec

# Sections whose fields do not depend on the stage kind.
_TYPED = {
    "diffusion": DiffusionSpec,
    "data": DataSpec,
    "optimizer": OptimizerSpec,
    "training": TrainingSpec,
    "mesh": MeshSpec,
}


def default_config() -> ConfigDict:
    """Returns a config with all sections, as a starting point for config files.

    Sections whose fields depend on the stage kind are empty. All others have their defaults.
    """
    config = {name: {} for name in (*SECTIONS, *OLD_SECTIONS)}
    config |= {name: dataclasses.asdict(cls()) for name, cls in _TYPED.items()}
    return ConfigDict(config)


def load_config(path: epath.PathLike, overrides: Sequence[str] = ()) -> ConfigDict:
    """Runs a config file and applies overrides.

    Args:
      path: Python file that defines `get_config()`. For "FILE:X", `get_config("X")` is called.
      overrides: Fields and values, such as "optimizer.learning_rate=1e-4".

    Returns:
      The locked config with all fields.

    Raises:
      ValueError: If the file cannot be run, or a field is unknown, missing or invalid.
    """
    sections = renamed(_run_config(path).to_dict(), warn=True)
    for override in overrides:
        name, separator, text = override.partition("=")
        if not separator:
            raise ValueError(f"--config.{override} needs a value. Use --config.{name}=VALUE.")
        _set(sections, name, text)
    return ConfigDict(typed(sections).sections()).lock()


def typed(config: ExperimentConfig | ConfigDict | Mapping[str, Any]) -> ExperimentConfig:
    """Parses and checks a config, unless it is already parsed.

    Raises:
      ValueError: If a field is unknown, missing or invalid, or the data does not match the network.
    """
    if isinstance(config, ExperimentConfig):
        return config
    sections = config.to_dict() if isinstance(config, ConfigDict) else config
    parsed = parse(renamed(sections, warn=True))
    check_data(parsed)
    return parsed


def _run_config(path: epath.PathLike) -> ConfigDict:
    """Returns the result of `get_config()` of a Python file, whose argument follows a colon in the path."""
    path, separator, argument = str(path).partition(".py:")
    path, arguments = (f"{path}.py", [argument]) if separator else (path, [])
    if not epath.Path(path).is_file():
        actual = "is a folder" if epath.Path(path).is_dir() else "does not exist"
        raise ValueError(f"--config must be a Python file with get_config(), but {str(path)!r} {actual}.")
    try:
        module = runpy.run_path(str(path))
        config = module["get_config"](*arguments) if "get_config" in module else None
    except Exception as error:  # the user's file can raise any exception
        raise ValueError(f"--config {str(path)!r} failed: {type(error).__name__}: {error}") from error
    if "get_config" not in module:
        raise ValueError(f"--config must be a Python file with get_config(), but {str(path)!r} has no such function.")
    if not isinstance(config, ConfigDict) or "task" not in config:
        raise ValueError(
            f"get_config() of --config {str(path)!r} must return a ConfigDict with a section task, got "
            f"{type(config).__name__}. Start from experiment.default_config()."
        )
    return config


def _set(sections: dict[str, Any], name: str, text: str) -> None:
    """Sets one field from text according to its declared type."""
    path = new_name(name).split(".")
    if len(path) == 1 and name in SECTIONS:
        raise ValueError(f"--config.{name} is a section. Set one of its fields with --config.{name}.FIELD=VALUE.")
    if path[0] == "encoders" and len(path) == 2:
        sections.setdefault("encoders", {})[path[1]] = None if text == "None" else text
        return
    node, types, where = sections, _types(sections), "config"
    for depth, part in enumerate(path):
        if types is None or part not in types:
            available = ", ".join(sorted(types)) if types else "none"
            raise ValueError(f"--config.{name}: {where} has no field {part!r}. Available: {available}.")
        if depth == len(path) - 1:
            node[part] = fields.convert_text(types[part], text, where=f"--config.{name}")
            return
        if not isinstance(node.get(part), dict):
            node[part] = {}
        node, types, where = node[part], _types_within(types[part]), f"{where}.{part}"


def _types(sections: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the declared types of all fields by section."""
    kind = trainable_kind(sections["task"].get("kind"))
    options = typing.get_type_hints(kind.options) if kind.options else {}
    of_kind = {"task": {**TASK_TYPES, **options}, "model": field_types(kind.network), "sampling": kind.settings}
    return {**of_kind, "encoders": {}, **_TYPED}


def _types_within(annotation: Any) -> Mapping[str, Any] | None:
    """Returns the declared types of the fields of a section or dataclass, or None if it has no fields."""
    if isinstance(annotation, Mapping):
        return annotation
    for option in (annotation, *typing.get_args(annotation)):
        if dataclasses.is_dataclass(option):
            hints = typing.get_type_hints(option)
            return {name: hints[name] for name in fields.names(option)}
    return None
