"""Config files and command-line overrides. A config has these sections:

    task       kind (clip, diffusion_prior, decoder, upsampler), stage (its name in a cascade), low_res_size,
               mask_channels, and the kind's options
    model      the fields of the network
    encoders   source of the frozen encoder of each role: a bundled cascade's name, a cascade folder, one stage's folder
               in it, or a hub id
    diffusion  `diffusion.spec.DiffusionSpec`
    sampling   `diffusion.settings.SamplingSettings`: how a cascade samples the stage by default
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

# Sections whose fields do not depend on the kind.
_TYPED = {
    "diffusion": DiffusionSpec,
    "data": DataSpec,
    "optimizer": OptimizerSpec,
    "training": TrainingSpec,
    "mesh": MeshSpec,
}


def default_config() -> ConfigDict:
    """Returns a config with every section, which a config file completes."""
    config = {name: {} for name in (*SECTIONS, *OLD_SECTIONS)}
    config |= {name: dataclasses.asdict(cls()) for name, cls in _TYPED.items()}
    return ConfigDict(config)


def load_config(path: epath.PathLike, overrides: Sequence[str] = ()) -> ConfigDict:
    """Runs a config file and applies overrides.

    Args:
      path: A Python file with `get_config()`; for "FILE:X", `get_config("X")` is called.
      overrides: Fields with their values, such as "optimizer.learning_rate=1e-4".

    Returns:
      The config with all fields, locked.

    Raises:
      ValueError: If the file cannot be run, or a field is unknown (with the known ones), missing or invalid.
    """
    sections = renamed(_run_config(path).to_dict(), warn=True)
    for override in overrides:
        name, separator, text = override.partition("=")
        if not separator:
            raise ValueError(f"--config.{override} needs a value: --config.{name}=VALUE")
        _set(sections, name, text)
    return ConfigDict(typed(sections).sections()).lock()


def typed(config: ExperimentConfig | ConfigDict | Mapping[str, Any]) -> ExperimentConfig:
    """Returns a parsed and checked config, whatever form it has."""
    if isinstance(config, ExperimentConfig):
        return config
    sections = config.to_dict() if isinstance(config, ConfigDict) else config
    parsed = parse(renamed(sections, warn=True))
    check_data(parsed)
    return parsed


def _run_config(path: epath.PathLike) -> ConfigDict:
    """What the `get_config()` of a Python file returns; its argument follows a colon."""
    path, separator, argument = str(path).partition(".py:")
    path, arguments = (f"{path}.py", [argument]) if separator else (path, [])
    if not epath.Path(path).is_file():
        found = "is a folder" if epath.Path(path).is_dir() else "does not exist"
        raise ValueError(f"--config {str(path)!r} {found}; a Python file with get_config() is wanted")
    try:
        module = runpy.run_path(str(path))
        config = module["get_config"](*arguments) if "get_config" in module else None
    except Exception as error:  # anything that the user's file raises
        raise ValueError(f"--config {str(path)!r} cannot be run: {type(error).__name__}: {error}") from error
    if "get_config" not in module:
        raise ValueError(f"--config {str(path)!r} has no function get_config()")
    if not isinstance(config, ConfigDict) or "task" not in config:
        raise ValueError(
            f"get_config() of --config {str(path)!r} returns {type(config).__name__} without a section task; a "
            "ConfigDict that began as experiment.default_config() is wanted"
        )
    return config


def _set(sections: dict[str, Any], name: str, text: str) -> None:
    """Sets one field from text, by its declared type."""
    path = new_name(name).split(".")
    if len(path) == 1 and name in SECTIONS:
        raise ValueError(f"--config.{name} is a section; set one of its fields, as in --config.{name}.FIELD=VALUE")
    if path[0] == "encoders" and len(path) == 2:
        sections.setdefault("encoders", {})[path[1]] = None if text == "None" else text
        return
    node, types, where = sections, _types(sections), "config"
    for depth, part in enumerate(path):
        if types is None or part not in types:
            known = ", ".join(sorted(types)) if types else "none below it"
            raise ValueError(f"--config.{name}: {where} has no field {part!r}; known: {known}")
        if depth == len(path) - 1:
            node[part] = fields.convert_text(types[part], text, where=f"--config.{name}")
            return
        if not isinstance(node.get(part), dict):
            node[part] = {}
        node, types, where = node[part], _types_within(types[part]), f"{where}.{part}"


def _types(sections: Mapping[str, Any]) -> dict[str, Any]:
    """The declared types of all fields, by section."""
    kind = trainable_kind(sections["task"].get("kind"))
    options = typing.get_type_hints(kind.options) if kind.options else {}
    of_kind = {"task": {**TASK_TYPES, **options}, "model": field_types(kind.network), "sampling": kind.settings}
    return {**of_kind, "encoders": {}, **_TYPED}


def _types_within(annotation: Any) -> Mapping[str, Any] | None:
    """The declared types of the fields of a section or of an optional dataclass; None for a value without fields."""
    if isinstance(annotation, Mapping):
        return annotation
    for option in (annotation, *typing.get_args(annotation)):
        if dataclasses.is_dataclass(option):
            hints = typing.get_type_hints(option)
            return {name: hints[name] for name in fields.names(option)}
    return None
