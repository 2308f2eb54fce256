"""A cascade in a folder.

    CASCADE/cascade.json              schema version, stages in order, embedding statistics, what it can draw
    CASCADE/tokenizer/                vocab.json, merges.txt, ...
    CASCADE/<stage>/config.json       kind, model, diffusion, sampling, how it was trained, and the digest of the CLIP
                                      that it was trained beside
    CASCADE/<stage>/params.safetensors
    CASCADE/<stage>/params_last.safetensors   where config.json says "last_step": that of the last step of sampling

Reading is strict: every tensor that is missing, left over or of another shape is named, and so is a stage that was
trained beside another CLIP. A cascade is written by `folder_update`: it is the old one or the new one at every moment.
"""

import importlib.resources
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from unclip_jax import files, parameters
from unclip_jax.arrays import PyTree
from unclip_jax.cascades.cascade import SAMPLED, Cascade, Stage, on_devices, shapes
from unclip_jax.cascades.recognition import ADVICE, check_replaceable, contents
from unclip_jax.cascades.tokenizers import open_tokenizer
from unclip_jax.folder_update import current, folder_update, is_new
from unclip_jax.models.precision import AUTO, compute_dtype
from unclip_jax.models.registry import network
from unclip_jax.schema import check_schema
from unclip_jax.tokenizer_files import copy_tokenizer

SCHEMA = 1
INDEX, CONFIG, PARAMS, TOKENIZER = "cascade.json", "config.json", "params.safetensors", "tokenizer"
LAST_PARAMS = "params_last.safetensors"
# What a stage's config.json must say, and what its section `diffusion`; where it is not sampled, the first two suffice.
SECTIONS = ("kind", "model", "diffusion", "sampling")
DIFFUSION = ("schedule", "steps", "predicts", "variance", "clip_x0")


def bundled_names() -> list[str]:
    """Names of the cascades that come with the package."""
    folder = _bundled()
    names = folder.iterdir() if folder.is_dir() else ()
    return sorted(path.name for path in names if (path / INDEX).is_file())


def is_bundled(folder: epath.PathLike) -> bool:
    """Whether a cascade in this folder comes with the package."""
    return epath.Path(folder).resolve().parent == epath.Path(str(_bundled())).resolve()


def is_cascade(source: epath.PathLike) -> bool:
    """Whether it is a bundled name or a cascade folder."""
    return str(source) in bundled_names() or current(source, INDEX).exists()


def resolve(source: epath.PathLike) -> epath.Path:
    """The folder of a bundled name or a path. Raises ValueError, with the bundled names, for what is neither."""
    if str(source) in bundled_names():
        return epath.Path(str(_bundled() / str(source)))
    folder = epath.Path(source)
    if not current(folder, INDEX).exists():
        known = ", ".join(bundled_names()) or "none"
        raise ValueError(f"cascade {str(source)!r} is no folder with a cascade.json and not bundled; known: {known}")
    return folder


def open_folder(
    source: epath.PathLike, *, stages: Sequence[str] | None, devices: Sequence[jax.Device], dtype: str = AUTO
) -> Cascade:
    """A bundled cascade by name, or a cascade folder; arguments and errors as in `load_cascade`."""
    folder = resolve(source)
    index = read_index(folder)
    loaded = {
        name: load_stage(folder / name, devices=devices, dtype=dtype)
        for name in chosen_stages(stages, index["stages"], str(source))
    }
    _check_clip(folder, loaded, str(source))
    configs = {name: stage.config for name, stage in loaded.items()}
    return Cascade(
        stages=loaded,
        tokenizer=open_tokenizer(current(folder, TOKENIZER), configs, source=str(source)),
        statistics=_statistics(folder, index, loaded),
        draws=index.get("draws"),
        devices=tuple(devices),
        path=str(source),
    )


def chosen_stages(chosen: Sequence[str] | None, known: Sequence[str], source: str) -> list[str]:
    """The stages to load, all where `chosen` is None. Raises ValueError for one that is not known."""
    unknown = [name for name in chosen or () if name not in known]
    if unknown:
        raise ValueError(f"stage {', '.join(unknown)} is not in {source!r}; known: {', '.join(known)}")
    return list(known if chosen is None else chosen)


def read_index(folder: epath.Path) -> dict[str, Any]:
    """The content of cascade.json. Raises ValueError for a damaged one or another schema version."""
    path = current(folder, INDEX)
    index = files.read_json(path)
    check_schema(index.get("schema"), SCHEMA, repr(str(path)))
    if index.get("schema") != SCHEMA or not isinstance(index.get("stages"), list):
        raise ValueError(f"{str(path)!r} has schema {index.get('schema')!r} and must have {SCHEMA}, with stages")
    return index


def check_output(folder: epath.PathLike, stages: Iterable[str], *, tokenizer: bool = False) -> None:
    """Checks that writing stages to a folder would replace nothing but a cascade. Writes nothing.

    Args:
      folder: A new or empty folder, or a cascade.
      stages: Names of the stages to write.
      tokenizer: Whether a tokenizer will be written.

    Raises:
      ValueError: If `folder` contains something else, its cascade.json cannot be read, or a path that would be replaced
        is not a packaged stage or tokenizer.
    """
    folder = epath.Path(folder)
    for name in stages:
        if name in ("", INDEX, TOKENIZER) or name.startswith(".") or "/" in name:
            raise ValueError(f"config.task.stage must be a folder name other than {TOKENIZER!r}, got {name!r}.")
    if is_new(folder):
        return
    if not current(folder, INDEX).exists():
        wanted = "a new folder, an empty one or a cascade"
        raise ValueError(f"{str(folder)!r} must be {wanted}, got {contents(folder)}. {ADVICE}")
    read_index(folder)
    for name in stages:
        check_replaceable(current(folder, name))
    if tokenizer:
        check_replaceable(current(folder, TOKENIZER), tokenizer=True)


def write_stages(
    folder: epath.PathLike,
    stages: Mapping[str, tuple[Any, ...] | Callable[[], tuple[Any, ...]]],
    *,
    tokenizer: epath.PathLike | None = None,
    statistics: Mapping[str, np.ndarray] | None = None,
    draws: str | None = None,
    order: Sequence[str] = (),
    dtype: np.dtype | None = np.float16,
) -> None:
    """Writes stages into a new or an existing cascade, all of them or, if anything fails, none.

    A stage that exists is replaced, others stay. What is None is kept as it is in an existing cascade.

    Args:
      stages: {name: (config, parameters)} or, with those of the last step, {name: (config, parameters, parameters)}. A
        value may be a function that returns such a tuple, so that only one stage is in memory at a time.
      order: names of stages in the order in which they run; those not named come behind.
      dtype: of the stored parameters; None keeps each one's own.

    Raises:
      ValueError: If `check_output` refuses the folder.
    """
    folder = epath.Path(folder)
    check_output(folder, stages, tokenizer=tokenizer is not None)
    with folder_update(folder) as new:
        index = read_index(folder) if current(folder, INDEX).exists() else {"schema": SCHEMA, "stages": []}
        if tokenizer is not None:
            (new / TOKENIZER).mkdir()
            copy_tokenizer(tokenizer, new / TOKENIZER)
        for name, stage in stages.items():
            _write_stage(new / name, *(stage() if callable(stage) else stage), dtype=dtype)
        names = [*index["stages"], *(name for name in stages if name not in index["stages"])]
        index["stages"] = sorted(names, key=lambda name: order.index(name) if name in order else len(order))
        if statistics is not None:
            index["embedding_statistics"] = {name: np.asarray(x, np.float64).tolist() for name, x in statistics.items()}
        if draws is not None:
            index["draws"] = draws
        (new / INDEX).write_text(json.dumps(index, indent=1) + "\n")


def _write_stage(folder: epath.Path, config: Mapping[str, Any], *trees: PyTree, dtype: np.dtype | None) -> None:
    folder.mkdir()
    config = {**config, "last_step": LAST_PARAMS} if len(trees) > 1 else config
    (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n")
    for file, tree in zip((PARAMS, LAST_PARAMS), trees):
        parameters.save(folder / file, tree, dtype=dtype)


def load_stage(folder: epath.PathLike, *, devices: Sequence[jax.Device] | None = None, dtype: str = AUTO) -> Stage:
    """Opens one stage's folder; `devices` and `dtype` as in `load_cascade`. Raises ValueError where it is not what it
    says."""
    folder, devices = current(epath.Path(folder).parent, epath.Path(folder).name), devices or jax.local_devices()
    config = files.read_json(folder / CONFIG)
    check_schema(config.get("schema"), SCHEMA, repr(str(folder / CONFIG)))
    sections = SECTIONS if config.get("kind") in SAMPLED else SECTIONS[:2]
    missing = [section for section in sections if section not in config]
    missing += [f"diffusion.{name}" for name in DIFFUSION if "diffusion" in config and name not in config["diffusion"]]
    if missing:
        raise ValueError(f"{str(folder / CONFIG)!r} lacks {', '.join(missing)}")
    dtype = compute_dtype(dtype, devices[0].platform)
    module = network(config["kind"], config["model"], dtype=dtype)
    expected, place = shapes(config["kind"], module), on_devices(devices, dtype)

    def load(file: str) -> PyTree:
        return parameters.load(folder / file, expected, place=place)

    last = config.get("last_step")
    if last not in (None, LAST_PARAMS):
        raise ValueError(f"{str(folder / CONFIG)!r}: last_step is {last!r}; {LAST_PARAMS!r} is wanted, or nothing")
    return Stage(folder.name, config, module, params=load(PARAMS), last_params=load(LAST_PARAMS) if last else None)


def _check_clip(folder: epath.Path, stages: Mapping[str, Stage], source: str) -> None:
    """Raises ValueError where a stage was trained beside another CLIP than the one that is here. A stage that does not
    say is believed."""
    wanted = {stage.name: stage.config.get("frozen", {}).get("clip") for stage in stages.values()}
    clips = [stage for stage in stages.values() if stage.kind == "clip"]
    if not clips or not any(wanted.values()):
        return
    # Of the file: on the devices they may be rounded.
    found = parameters.digest_of_file(current(folder, clips[0].name, PARAMS))
    for name, digest in wanted.items():
        if digest not in (None, found):
            raise ValueError(
                f"cascade {source!r}: {name} was trained beside a CLIP of digest {digest}, and {clips[0].name} has "
                f"{found}; package it with the CLIP that it was trained beside"
            )


def _statistics(
    folder: epath.Path, index: Mapping[str, Any], stages: Mapping[str, Stage]
) -> dict[str, np.ndarray] | None:
    given = index.get("embedding_statistics")
    found = given and {name: np.asarray(given.get(name), np.float32) for name in ("mean", "std")}
    for prior in (stage for stage in stages.values() if stage.kind == "diffusion_prior"):
        wanted = (prior.module.embed_dim,)
        if not found or any(value.shape != wanted for value in found.values()):
            raise ValueError(
                f"{str(folder / INDEX)!r} must hold embedding_statistics, mean and std of {wanted[0]} numbers "
                f"each, for {prior.name}"
            )
    return found or None


def _bundled():
    return importlib.resources.files("unclip_jax.cascades") / "bundled"
