"""Cascade folders: layout and loading.

    CASCADE/cascade.json                       schema version, stages in execution order, description
    CASCADE/<stage>/config.json                spec of the stage
    CASCADE/<stage>/params.safetensors
    CASCADE/<stage>/params_last.safetensors    if the spec sets `last_step_params`
    CASCADE/<stage>/extras.safetensors         if there are untrained arrays, such as embedding statistics
    CASCADE/<stage>/tokenizer/                 if the stage reads captions itself

Loading is strict: invalid JSON files, missing or unexpected tensors, wrong shapes and stages that were trained with a
different encoder raise ValueError. Folders of schema 1 can be loaded as well.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from flax import linen as nn

from unclip_jax import files, parameters
from unclip_jax.arrays import PyTree
from unclip_jax.cascades.cascade import Cascade, execution_order
from unclip_jax.cascades.priors import stages_with_prior
from unclip_jax.cascades.sources import INDEX, resolve
from unclip_jax.folder_update import current
from unclip_jax.kinds import KINDS, kind_of
from unclip_jax.models.network import parameter_shapes
from unclip_jax.models.precision import AUTO, compute_dtype, parameter_dtype
from unclip_jax.schema import check_schema
from unclip_jax.sharding.placement import replicated
from unclip_jax.stages import schema_1
from unclip_jax.stages.spec import SCHEMA, StageSpec, check_stage_name, from_json
from unclip_jax.stages.stage import Stage
from unclip_jax.tokenizers.open import open_tokenizer

CONFIG, TOKENIZER = "config.json", "tokenizer"
PARAMS, LAST_PARAMS, EXTRAS = "params.safetensors", "params_last.safetensors", "extras.safetensors"

# {name: spec} of all stages -> names of the stages to load.
ChooseStages = Callable[[Mapping[str, StageSpec]], Sequence[str]]


@dataclasses.dataclass(frozen=True, eq=False)
class StoredStage:
    """Stage on disk.

    Attributes:
      spec: Spec of the stage.
      folder: Folder of the parameters.
      extras: Extras of a folder of schema 1, which stores them in cascade.json. If None, they are in `folder`.
      tokenizer: Folder of the tokenizer. If None, the stage does not read captions itself.
    """

    spec: StageSpec
    folder: epath.Path
    extras: Mapping[str, PyTree] | None
    tokenizer: epath.Path | None


def open_folder(
    source: epath.PathLike,
    *,
    stages: Sequence[str] | ChooseStages | None,
    devices: Sequence[jax.Device],
    dtype: str = AUTO,
) -> Cascade:
    """Loads a cascade folder or a bundled cascade; arguments and errors as in `load_cascade`."""
    folder = resolve(source)
    stored, index = read_stages(folder), read_index(folder)
    names = chosen(stages, {name: one.spec for name, one in stored.items()}, str(source))
    for name in names:  # report invalid specs before loading any parameters
        build(stored[name], dtype=np.float32)
        _check_tokenizer(stored[name])
    resident = stages_with_prior({name: stored[name].spec for name in names})
    loaded = {name: load(stored[name], devices=devices, dtype=dtype, on_host=name not in resident) for name in names}
    _check_encoders(stored, loaded, str(source))
    return Cascade(loaded, index.get("description", index.get("draws")), tuple(devices), str(source))


def chosen(stages: Sequence[str] | ChooseStages | None, specs: Mapping[str, StageSpec], source: str) -> list[str]:
    """Returns the names of the stages to load, in execution order; `stages` as in `load_cascade`.

    Raises:
      ValueError: If a name is unknown.
    """
    names = stages(specs) if callable(stages) else specs if stages is None else stages
    unknown = [name for name in names if name not in specs]
    if unknown:
        raise ValueError(f"Unknown stage {', '.join(unknown)} in {source!r}. Available: {', '.join(specs)}.")
    return execution_order({name: specs[name] for name in names})


def read_index(folder: epath.Path) -> dict[str, Any]:
    """Returns the content of cascade.json.

    Raises:
      ValueError: If the file is invalid or has an unsupported schema version.
    """
    path = current(folder, INDEX)
    index = files.read_json(path)
    check_schema(index.get("schema"), SCHEMA, f"{str(path)!r}")
    names = index.get("stages")
    if index.get("schema") not in (schema_1.OLD_SCHEMA, SCHEMA) or not isinstance(names, list):
        raise ValueError(f"{str(path)!r} must have schema {SCHEMA} and stages, got schema {index.get('schema')!r}.")
    for name in names:
        try:
            check_stage_name(name)
        except ValueError as error:
            raise ValueError(f"{str(path)!r}: {error}") from error
    return index


def read_stages(folder: epath.Path) -> dict[str, StoredStage]:
    """Returns the stages of a cascade folder in execution order, without loading their parameters."""
    index = read_index(folder)
    configs = {name: _read_config(folder, name) for name in index["stages"]}
    if index["schema"] == SCHEMA:
        return {name: _stored(folder, name, config) for name, config in configs.items()}
    old = schema_1.upgrade(index, configs)
    return {
        name: dataclasses.replace(
            _stored(folder, name, config),
            extras=old.extras.get(name, {}),
            tokenizer=current(folder, TOKENIZER) if name in old.tokenizer_stages else None,
        )
        for name, config in old.configs.items()
    }


def read_specs(folder: epath.PathLike) -> dict[str, StageSpec]:
    """Returns the specs of the stages of a cascade folder, in execution order."""
    return {name: stored.spec for name, stored in read_stages(epath.Path(folder)).items()}


def read_stage(folder: epath.PathLike) -> StoredStage:
    """Reads the folder of one stage, in a cascade folder or by itself, without loading parameters."""
    folder = epath.Path(folder)
    cascade, name = folder.parent, folder.name
    if current(cascade, INDEX).exists() and name in read_index(cascade)["stages"]:
        return read_stages(cascade)[name]
    config = _read_config(cascade, name)
    if config.get("schema", schema_1.OLD_SCHEMA) == SCHEMA:
        return _stored(cascade, name, config)
    old = schema_1.upgrade({}, {name: config})
    return dataclasses.replace(_stored(cascade, name, old.configs[name]), extras={}, tokenizer=None)


def load_stage(folder: epath.PathLike, *, devices: Sequence[jax.Device] | None = None, dtype: str = AUTO) -> Stage:
    """Loads the folder of one stage; `devices` and `dtype` as in `load_cascade`."""
    return load(read_stage(folder), devices=devices, dtype=dtype)


def load(
    stored: StoredStage, *, devices: Sequence[jax.Device] | None = None, dtype: str = AUTO, on_host: bool = False
) -> Stage:
    """Loads the parameters, extras and tokenizer of a stage; `devices` and `dtype` as in `load_cascade`.

    If `on_host` is True, parameters stay in host memory.

    Raises:
      ValueError: If the files do not match the spec.
    """
    devices, spec = devices or jax.local_devices(), stored.spec
    kind, dtype = kind_of(spec), compute_dtype(dtype, devices[0].platform)
    module = build(stored, dtype=dtype)
    expected, place = parameter_shapes(module), _keep(dtype) if on_host else place_on(devices, dtype)
    tokenizer = None
    if kind.tokenizer is not None and stored.tokenizer is not None:
        name = f"{spec.name} of {str(stored.folder.parent)!r}"
        tokenizer = open_tokenizer(stored.tokenizer, kind.tokenizer, spec.model, name=name)
    return Stage(
        spec=spec,
        module=module,
        params=parameters.load(stored.folder / PARAMS, expected, place=place),
        extras=_extras(stored, kind.extras_shapes and kind.extras_shapes(module)),
        last_step_params=parameters.load(stored.folder / LAST_PARAMS, expected, place=place)
        if spec.last_step_params
        else None,
        tokenizer=tokenizer,
    )


def build(stored: StoredStage, *, dtype: Any) -> nn.Module:
    """Builds the network of a stage, or raises ValueError if the spec is invalid."""
    where = f"{str(stored.folder / CONFIG)!r}"
    return kind_of(stored.spec, where=where).build(stored.spec, where=where, dtype=dtype)


def place_on(devices: Sequence[jax.Device], dtype: Any) -> parameters.Placement:
    """Returns a placement that replicates parameters on every device, for the compute dtype `dtype`."""
    return parameters.on_devices(replicated(devices), functools.partial(parameter_dtype, dtype=dtype))


def _keep(dtype: Any) -> parameters.Placement:
    """Returns a placement that keeps parameters on the host, with the dtypes that they have on devices."""
    return lambda name, shape, pieces: parameters.on_host(parameter_dtype(name, dtype))(name, shape, pieces)


def _read_config(cascade: epath.Path, name: str) -> dict[str, Any]:
    path = current(cascade, name, CONFIG)
    config = files.read_json(path)
    check_schema(config.get("schema"), SCHEMA, f"{str(path)!r}")
    return config


def _stored(cascade: epath.Path, name: str, config: Mapping[str, Any]) -> StoredStage:
    folder = current(cascade, name)
    kind = KINDS.find(config.get("kind"))
    spec = from_json(name, config, where=f"{str(folder / CONFIG)!r}", settings=kind and kind.settings)
    tokenizer = folder / TOKENIZER
    return StoredStage(spec, folder, extras=None, tokenizer=tokenizer if tokenizer.exists() else None)


def _extras(stored: StoredStage, expected: PyTree | None) -> Mapping[str, PyTree]:
    if expected is None:
        return {}
    if stored.extras is None:
        return parameters.load(stored.folder / EXTRAS, expected)
    parameters.check(parameters.flatten(stored.extras), expected, f"extras of {stored.spec.name} in {INDEX}")
    return jax.tree.map(lambda x: np.asarray(x, np.float32), stored.extras)


def _check_tokenizer(stored: StoredStage) -> None:
    """Raises ValueError if the tokenizer of a stage is missing."""
    if stored.tokenizer is None and kind_of(stored.spec).tokenizer is not None:
        folder = str(stored.folder / TOKENIZER)
        raise ValueError(f"{folder!r} must be a folder that contains the tokenizer of {stored.spec.name}.")


def _check_encoders(stored: Mapping[str, StoredStage], loaded: Mapping[str, Stage], source: str) -> None:
    """Raises ValueError if a stage was trained with a different encoder."""
    expected = {
        (name, ref.stage): ref.digest
        for name, stage in loaded.items()
        for ref in stage.spec.encoders.values()
        if ref.digest is not None and ref.stage in loaded
    }
    # Digests are those of the files, since parameters on devices may be rounded.
    actual = {encoder: parameters.digest_of_file(stored[encoder].folder / PARAMS) for _, encoder in expected}
    for (name, encoder), digest in expected.items():
        if digest != actual[encoder]:
            raise ValueError(
                f"{encoder} of cascade {source!r} must have digest {digest}, with which {name} was trained, got "
                f"{actual[encoder]}. Package {name} with the CLIP that it was trained with."
            )
