"""A cascade: trained stages in a folder, and in memory.

    CASCADE/cascade.json              schema version, stages in order, embedding statistics, what it can draw
    CASCADE/tokenizer/                vocab.json, merges.txt, ...
    CASCADE/<stage>/config.json       kind, model, diffusion, sampling, digest of the CLIP that it was trained beside
    CASCADE/<stage>/params.safetensors

Any stage may be absent: a cascade of CLIP alone embeds, one without upsamplers stops at the decoder's size. Loading is
strict: every tensor that is missing, left over or of another shape is named, and so is a stage that was trained beside
another CLIP.
"""

import dataclasses
import importlib.resources
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import linen as nn

from unclip_jax import files, parameters
from unclip_jax.arrays import PyTree
from unclip_jax.models.clip import TextFeatures
from unclip_jax.models.precision import AUTO, compute_dtype
from unclip_jax.models.registry import network
from unclip_jax.tokenizer import Tokenizer

SCHEMA = 1
CONFIG, PARAMS, TOKENIZER = "config.json", "params.safetensors", "tokenizer"
# What a stage's config.json must say, and what its section `diffusion`; CLIP needs the first two alone.
SECTIONS = ("kind", "model", "diffusion", "sampling")
DIFFUSION = ("schedule", "steps", "predicts", "variance", "clip_x0")


@dataclasses.dataclass(frozen=True, eq=False)
class Stage:
    """One trained network.

    Args:
      name: of the stage in its cascade, such as "upsampler_16_to_64"; seeds its noise.
      config: the stage's config.json.
      module: the linen module.
      params: its parameters, on every device that samples.
    """

    name: str
    config: Mapping[str, Any]
    module: nn.Module
    params: PyTree

    @property
    def kind(self) -> str:
        return self.config["kind"]


@dataclasses.dataclass(frozen=True, eq=False)
class Cascade:
    """Stages in the order in which they run.

    Args:
      statistics: `mean` and `std`, float32 "E", of the embeddings that the prior works on; None without a prior.
      draws: one line that says what the cascade can draw; None: nobody said.
      devices: the local devices that sample.
      path: the folder that it came from.
    """

    stages: Mapping[str, Stage]
    tokenizer: Tokenizer
    statistics: Mapping[str, np.ndarray] | None
    draws: str | None
    devices: tuple[jax.Device, ...]
    path: str

    def of_kind(self, kind: str) -> list[Stage]:
        return [stage for stage in self.stages.values() if stage.kind == kind]

    def only(self, kind: str) -> Stage:
        """The one stage of a kind. Raises ValueError where the cascade has none."""
        found = self.of_kind(kind)
        if not found:
            raise ValueError(f"cascade {self.path!r} has no stage of kind {kind!r}; it has: {', '.join(self.stages)}")
        return found[0]


def bundled_names() -> list[str]:
    """Names of the cascades that come with the package."""
    folder = _bundled()
    names = folder.iterdir() if folder.is_dir() else ()
    return sorted(path.name for path in names if (path / "cascade.json").is_file())


def resolve(source: epath.PathLike) -> epath.Path:
    """The folder of a bundled name or a path. Raises ValueError, with the bundled names, for what is neither."""
    if str(source) in bundled_names():
        return epath.Path(str(_bundled() / str(source)))
    folder = epath.Path(source)
    if not (folder / "cascade.json").exists():
        known = ", ".join(bundled_names()) or "none"
        raise ValueError(f"cascade {str(source)!r} is no folder with a cascade.json and not bundled; known: {known}")
    return folder


def load_cascade(
    source: epath.PathLike,
    *,
    stages: Sequence[str] | None = None,
    devices: Sequence[jax.Device] | None = None,
    dtype: str = AUTO,
) -> Cascade:
    """Opens a bundled cascade by name, or a cascade folder.

    Args:
      stages: names of those to load; None: all.
      devices: the local devices that sample; None: all of this process.
      dtype: in which the networks compute: "float32", "bfloat16", or "auto", by the devices (see `precision`).

    Raises ValueError for an unknown source, stage or dtype, and for a folder that is not what it says.
    """
    folder = resolve(source)
    index = read_index(folder)
    names = index["stages"] if stages is None else list(stages)
    unknown = [name for name in names if name not in index["stages"]]
    if unknown:
        raise ValueError(f"stage {', '.join(unknown)} is not in {str(source)!r}; known: {', '.join(index['stages'])}")
    devices = tuple(devices or jax.local_devices())
    loaded = {name: load_stage(folder / name, devices=devices, dtype=dtype) for name in names}
    _check_clip(loaded, str(source))
    return Cascade(
        stages=loaded,
        tokenizer=Tokenizer.load(folder / TOKENIZER),
        statistics=_statistics(folder, index, loaded),
        draws=index.get("draws"),
        devices=devices,
        path=str(source),
    )


def read_index(folder: epath.Path) -> dict[str, Any]:
    """The content of cascade.json. Raises ValueError for a damaged one or another schema version."""
    index = _read_json(folder / "cascade.json")
    if index.get("schema") != SCHEMA or not isinstance(index.get("stages"), list):
        raise ValueError(
            f"{str(folder / 'cascade.json')!r} has schema {index.get('schema')!r} and must have {SCHEMA}, with stages"
        )
    return index


def example_inputs(kind: str, module: nn.Module) -> tuple[Any, ...]:
    """One row of inputs of the right shapes, to initialise or trace a stage's network with."""
    if kind == "clip":
        return jnp.zeros((1, module.image_size, module.image_size, 3)), jnp.zeros((1, module.context_length), jnp.int32)
    t = jnp.zeros(1, jnp.int32)
    if kind == "upsampler":
        x = jnp.zeros((1, module.image_size, module.image_size, 3))
        return x, t, x
    # The decoder takes texts of any length: eight tokens stand for them.
    length = getattr(module, "context_length", 8)
    text = TextFeatures(
        pooled=jnp.zeros((1, module.embed_dim)),
        sequence=jnp.zeros((1, length, module.text_width)),
        mask=jnp.ones((1, length), bool),
    )
    embedding = jnp.zeros((1, module.embed_dim))
    if kind == "diffusion_prior":
        return embedding, t, text
    return jnp.zeros((1, module.image_size, module.image_size, 3)), t, embedding, text


def shapes(kind: str, module: nn.Module) -> PyTree:
    """The tree of parameter shapes of a stage's network."""
    return jax.eval_shape(module.init, jax.random.key(0), *example_inputs(kind, module))["params"]


def replicated(devices: Sequence[jax.Device]) -> jax.sharding.NamedSharding:
    """Every device holds the whole: placed so once, parameters are not copied again when a sampler is called."""
    return _sharded(devices)


def row_sharded(devices: Sequence[jax.Device]) -> jax.sharding.NamedSharding:
    """The first axis, of one entry a device, lies on its device each."""
    return _sharded(devices, "device")


def _sharded(devices: Sequence[jax.Device], *axes: str) -> jax.sharding.NamedSharding:
    mesh = jax.sharding.Mesh(np.asarray(devices), ("device",))
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))


def write_stages(
    folder: epath.PathLike,
    stages: Mapping[str, tuple[Mapping[str, Any], PyTree]],
    *,
    tokenizer: epath.PathLike | None = None,
    statistics: Mapping[str, np.ndarray] | None = None,
    draws: str | None = None,
    order: Sequence[str] = (),
) -> None:
    """Writes stages, {name: (config, parameters)}, into a new or an existing cascade as float16.

    A stage that is there already is replaced, others stay. Each stage appears whole or not at all, and cascade.json,
    which names them, comes last. What is None is kept as it is in an existing cascade.

    Args:
      order: names of stages in the order in which they run; those not named come behind.
    """
    folder = epath.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    index = read_index(folder) if (folder / "cascade.json").exists() else {"schema": SCHEMA, "stages": []}
    if tokenizer is not None:
        with files.whole_folder(folder / TOKENIZER) as new:
            _copy_files(epath.Path(tokenizer), new)
    for name, (config, params) in stages.items():
        with files.whole_folder(folder / name) as new:
            _write_stage(new, config, params)
    names = [*index["stages"], *(name for name in stages if name not in index["stages"])]
    index["stages"] = sorted(names, key=lambda name: order.index(name) if name in order else len(order))
    if statistics is not None:
        index["embedding_statistics"] = {name: np.asarray(x, np.float64).tolist() for name, x in statistics.items()}
    if draws is not None:
        index["draws"] = draws
    files.write_whole(folder / "cascade.json", json.dumps(index, indent=1) + "\n")


def load_stage(folder: epath.PathLike, *, devices: Sequence[jax.Device] | None = None, dtype: str = AUTO) -> Stage:
    """Opens one stage's folder. `devices` None: all local ones. Raises ValueError where it is not what it says."""
    folder, devices = epath.Path(folder), devices or jax.local_devices()
    config = _read_json(folder / CONFIG)
    sections = SECTIONS[:2] if config.get("kind") == "clip" else SECTIONS
    missing = [section for section in sections if section not in config]
    missing += [f"diffusion.{name}" for name in DIFFUSION if "diffusion" in config and name not in config["diffusion"]]
    if missing:
        raise ValueError(f"{str(folder / CONFIG)!r} lacks {', '.join(missing)}")
    module = network(config["kind"], config["model"], dtype=compute_dtype(dtype, devices[0].platform))
    sharding = replicated(devices)
    params = parameters.load(
        folder / PARAMS,
        shapes(config["kind"], module),
        place=lambda _, array: jax.device_put(array, sharding),
    )
    return Stage(name=folder.name, config=config, module=module, params=params)


def _check_clip(stages: Mapping[str, Stage], source: str) -> None:
    """Raises ValueError where a stage was trained beside another CLIP than the one that is here. A stage that does not
    say is believed."""
    wanted = {stage.name: stage.config.get("frozen", {}).get("clip") for stage in stages.values()}
    clips = [stage for stage in stages.values() if stage.kind == "clip"]
    if not clips or not any(wanted.values()):
        return
    found = parameters.digest(clips[0].params)
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
                f"{str(folder / 'cascade.json')!r} must hold embedding_statistics, mean and std of {wanted[0]} numbers "
                f"each, for {prior.name}"
            )
    return found or None


def _write_stage(folder: epath.Path, config: Mapping[str, Any], params: PyTree) -> None:
    (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n")
    parameters.save(folder / PARAMS, params, dtype=np.float16)


def _copy_files(source: epath.Path, target: epath.Path) -> None:
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())


def _read_json(path: epath.Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{str(path)!r} cannot be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{str(path)!r} holds no JSON object")
    return content


def _bundled():
    return importlib.resources.files("unclip_jax.cascades") / "bundled"
