"""From a config to a trained stage: a ConfigDict becomes task, data and loop.

A config has these sections; a config file starts from `default_config()` and sets what differs:

    task       kind (clip, diffusion_prior, decoder, upsampler), stage (its name in a cascade), and what the kind needs
    model      the fields of the network's linen module
    frozen     clip: a bundled cascade's name, a cascade folder, or one stage's folder in it; None where none is used
    diffusion  schedule, steps, what the network predicts, variance, clip_x0
    data       what data.pipeline.Pipeline reads
    optimizer, training, mesh     what training.loop.train reads
    sampling   the stage's defaults when a cascade samples it: sampler, steps, scale, ...
"""

import ast
import dataclasses
import runpy
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from unclip_jax import files, parameters
from unclip_jax.arrays import PyTree
from unclip_jax.cascades.cascade import shapes
from unclip_jax.cascades.embedding import ROWS, Clip, encode_image, image_encoder, load_clip, locate_clip
from unclip_jax.cascades.folder import (
    PARAMS,
    TOKENIZER,
    check_output,
    is_bundled,
    load_stage,
    resolve,
    write_stages,
)
from unclip_jax.cascades.recognition import is_tokenizer
from unclip_jax.data import embedding_store, pipeline
from unclip_jax.data.sources import describe, open_source
from unclip_jax.diffusion import schedule
from unclip_jax.folder_update import current, recover
from unclip_jax.models import registry
from unclip_jax.models.precision import compute_dtype
from unclip_jax.tasks.contrastive import MOMENTS, Contrastive
from unclip_jax.tasks.decoder import DecoderTask
from unclip_jax.tasks.diffusion_prior import DiffusionPriorTask
from unclip_jax.tasks.upsampler import UpsamplerTask
from unclip_jax.tokenizer import Tokenizer, add_known_words, train_tokenizer
from unclip_jax.tokenizer_files import copy_tokenizer
from unclip_jax.training import loop
from unclip_jax.training.checkpointing import Restored, restore_config, restore_extras, restore_params, steps_saved
from unclip_jax.training.task import Task
from unclip_jax.training.workdir_lock import lock_workdir

# The order in which stages run; one of another name comes behind.
ORDER = ("clip", "diffusion_prior", "decoder", "upsampler_16_to_64", "upsampler_64_to_256")
STATISTICS_ROWS = 4096
TRAINED = ("steps", "global_batch", "seed", "data", "split", "from")  # what a bundled stage says of its training
ELSEWHERE = ("predicts", "micro_batches")  # fields of tasks that stand in `diffusion` and `training`
TASKS = {
    "clip": Contrastive,
    "diffusion_prior": DiffusionPriorTask,
    "decoder": DecoderTask,
    "upsampler": UpsamplerTask,
}


def default_config() -> ConfigDict:
    """Every section with its defaults. A config may set these fields and no others."""
    config = loop.default_config()
    config.task = ConfigDict()
    config.model = ConfigDict()
    config.frozen = ConfigDict({"clip": None})
    config.diffusion = ConfigDict({"schedule": "cosine", "steps": 1000, "predicts": "eps"})
    config.data = pipeline.default_config()
    config.sampling = ConfigDict()
    return config


def _defaults(kind: str) -> ConfigDict:
    """`default_config` with the fields that a kind's network and task have by default."""
    config = default_config()
    config.task = ConfigDict(_task_defaults(kind))
    config.model = ConfigDict(registry.defaults(kind))
    return config


def load_config(path: epath.PathLike, overrides: Sequence[str] = ()) -> ConfigDict:
    """Runs a config file's `get_config()`, or for "FILE:X" its `get_config("X")`, and applies overrides such as
    "optimizer.learning_rate=1e-4".

    Raises ValueError for a file without get_config, an unknown field (with the known ones), or a value of another type.
    """
    config = _run_config(path)
    # Whole, so that every field can be set, and is written down with the run.
    defaults = _defaults(config.task.kind)
    config.model = ConfigDict({**defaults.model, **config.model})
    known = ("kind", "stage", *defaults.task)
    unknown = sorted(set(config.task) - set(known))
    if unknown:
        raise ValueError(f"config.task has no field {', '.join(unknown)}; known: {', '.join(known)}")
    config.task = ConfigDict({**defaults.task, **config.task})
    config.lock()
    for override in overrides:
        name, separator, text = override.partition("=")
        if not separator:
            raise ValueError(f"--config.{override} needs a value: --config.{name}=VALUE")
        _set(config, name, text)
    return config


def _run_config(path: epath.PathLike) -> ConfigDict:
    """What the `get_config()` of a Python file returns; behind a colon stands its argument."""
    path, separator, argument = str(path).partition(".py:")
    path, arguments = (f"{path}.py", [argument]) if separator else (path, [])
    if not epath.Path(path).is_file():
        found = "is a folder" if epath.Path(path).is_dir() else "does not exist"
        raise ValueError(f"--config {str(path)!r} {found}; a Python file with get_config() is wanted")
    try:
        module = runpy.run_path(str(path))
        config = module["get_config"](*arguments) if "get_config" in module else None
    except Exception as error:  # whatever somebody's file does
        raise ValueError(f"--config {str(path)!r} cannot be run: {type(error).__name__}: {error}") from error
    if "get_config" not in module:
        raise ValueError(f"--config {str(path)!r} has no function get_config()")
    if not isinstance(config, ConfigDict) or "task" not in config:
        raise ValueError(
            f"get_config() of --config {str(path)!r} returns {type(config).__name__} without a section task; a "
            "ConfigDict that began as experiment.default_config() is wanted"
        )
    return config


@dataclasses.dataclass(frozen=True, eq=False)
class Parts:
    """What a training is made of, as `training.loop.train` takes it."""

    task: Task
    frozen: PyTree
    extras: PyTree
    train_data: pipeline.Pipeline
    eval_data: pipeline.Pipeline


def train_stage(config: ConfigDict, workdir: epath.PathLike, *, progress: bool = True) -> int:
    """Trains the stage that `config` describes in `workdir`, or goes on where it stopped. Returns the last step.

    Data that is made locally prepares itself; the tokenizer is trained with CLIP, and comes with the frozen CLIP for
    every other stage. Raises ValueError if another run is training in `workdir` (see `lock_workdir`), and what
    `loop.train` raises.
    """
    loop.check_config(config)
    defaults = _defaults(config.task.kind)
    loop.check_workdir(config, workdir, defaults)
    with lock_workdir(workdir):
        begun = bool(steps_saved(workdir))
        initial_params, source = (None, None) if begun else _initial_params(config)
        parts = assemble(config, workdir)
        return loop.train(
            parts.task,
            config=config,
            frozen=parts.frozen,
            extras=parts.extras,
            train_data=parts.train_data,
            eval_data=parts.eval_data,
            workdir=workdir,
            initial_params=initial_params,
            origin={"data": describe(config.data), "split": config.data.split, "from": source},
            defaults=defaults,
            progress=progress,
        )


def assemble(config: ConfigDict, workdir: epath.PathLike) -> Parts:
    """The task and the data that `config` describes. Of `workdir` the tokenizer and the statistics of a run that began
    there are read; a new tokenizer is written."""
    workdir = epath.Path(workdir)
    clip = _load_frozen_clip(config) if config.frozen.clip else None
    source = open_source(config.data, config.data.split)
    if config.data.source == "embeddings":
        _check_embeddings(config, clip)
    tokenizer = _tokenizer(config, clip, source, workdir)
    streams = [
        pipeline.Pipeline(
            config.data,
            split,
            global_batch=config.training.global_batch,
            seed=config.training.seed,
            tokenizer=tokenizer,
            shuffle=split == config.data.split,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            source=source if split == config.data.split else None,
        )
        for split in (config.data.split, config.data.eval_split)
    ]
    task = build_task(config, clip=clip, tokenizer=tokenizer)
    frozen, extras = _frozen(config, clip, streams[0], restore_extras(workdir))
    return Parts(task, frozen, extras, train_data=streams[0], eval_data=streams[1])


def build_task(config: ConfigDict, *, clip: Clip | None, tokenizer: Tokenizer | None) -> Task:
    """The task of `config.task.kind` over the network of `config.model`. Raises ValueError for an unknown kind."""
    kind = config.task.kind
    model = registry.network(
        kind, config.model.to_dict(), dtype=compute_dtype(config.training.dtype, jax.default_backend())
    )
    settings = {name: config.task[name] for name in _task_defaults(kind)}
    if kind == "clip":
        return Contrastive(model, config.training.micro_batches, **settings)
    noise, predicts = schedule.by_name(config.diffusion.schedule, config.diffusion.steps), config.diffusion.predicts
    if kind == "upsampler":
        return UpsamplerTask(model, noise, predicts, **settings)
    if clip is None:
        raise ValueError(f"config.frozen.clip is None, and the task {kind!r} needs a CLIP: a cascade's name or folder")
    empty = tokenizer.encode([""])[0]
    if kind == "diffusion_prior":
        if predicts != "x0":
            raise ValueError(f"config.diffusion.predicts is {predicts!r}; the prior predicts x0, the embedding itself")
        return DiffusionPriorTask(model, clip.module, noise, empty, **settings)
    return DecoderTask(model, clip.module, noise, empty, predicts=predicts, **settings)


def _task_defaults(kind: str) -> dict[str, Any]:
    """The fields of a kind's task that `config.task` may set, with their defaults."""
    if kind not in TASKS:
        raise ValueError(f"config.task.kind {kind!r} is unknown; known: {', '.join(TASKS)}")
    fields = dataclasses.fields(TASKS[kind])
    return {
        field.name: field.default
        for field in fields
        if field.default is not dataclasses.MISSING and field.name not in ELSEWHERE
    }


def _tokenizer_beside(source: epath.PathLike) -> epath.Path:
    """The tokenizer's folder of a CLIP in a workdir or in a cascade."""
    places = [current(folder, TOKENIZER) for folder in (epath.Path(source), epath.Path(source).parent)]
    for place in places:
        if place.exists():
            return place
    looked = " and ".join(map(str, places))
    raise ValueError(f"config.training.init_from {source!r} has no tokenizer: looked for {looked}")


def _tokenizer(config: ConfigDict, clip: Clip | None, source, workdir: epath.Path) -> Tokenizer | None:
    """CLIP trains its own on the captions of the training split, or goes on with that of the weights it begins with,
    which then knows the words of these captions too; every other stage takes the frozen CLIP's."""
    if clip is not None:
        return clip.tokenizer
    if not config.data.captions:
        return None
    directory = workdir / TOKENIZER
    if jax.process_index() == 0 and not (directory / "vocab.json").exists():
        with files.atomic_folder(directory, replace=is_tokenizer) as new:
            if config.training.init_from:
                copy_tokenizer(_tokenizer_beside(config.training.init_from), new)
                add_known_words(new, source.captions())
            else:
                train_tokenizer(
                    source.captions(),
                    vocab_size=config.model.vocab_size,
                    context_length=config.model.context_length,
                    directory=new,
                )
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("tokenizer")
    return Tokenizer.load(directory)


def _initial_params(config: ConfigDict) -> tuple[PyTree | None, dict[str, Any] | None]:
    """The parameters of `config.training.init_from`, the averaged ones of a workdir or a packaged stage's, with their
    digest and what is known of how they were trained."""
    source = config.training.init_from
    if not source:
        return None, None
    folder, kind = epath.Path(source), config.task.kind
    packaged = current(folder.parent, folder.name, PARAMS)
    expected = shapes(kind, registry.network(kind, config.model.to_dict()))
    if (folder / "checkpoints").exists():
        restored = restore_params(folder)
        params, trained = _of_network(restored.params), _how_trained(restored)
    elif packaged.exists():
        stage = load_stage(folder, dtype="float32")
        params, trained = jax.tree.map(np.asarray, stage.params), stage.config.get("trained")
    else:
        raise ValueError(f"config.training.init_from {source!r} is neither a workdir nor a stage's folder in a cascade")
    parameters.check(parameters.flatten(params), expected, f"weights of config.training.init_from {source!r}")
    return params, {"digest": parameters.digest(params), "trained": trained}


def _of_network(params: PyTree) -> PyTree:
    """Without what a task learned beside its network."""
    return {name: tree for name, tree in params.items() if name != MOMENTS}


def _how_trained(restored: Restored) -> dict[str, Any]:
    """What a packaged stage says of its training: steps, batch, seed, and what `train_stage` said of data and start."""
    training = restored.config["training"]
    said = {name: training[name] for name in ("global_batch", "seed")}
    return {"steps": restored.step, **said, **(restored.origin or {})}


def _load_frozen_clip(config: ConfigDict) -> Clip:
    """It computes in `config.training.dtype`. Its parameters are float32 all the same: of them is its digest."""
    clip = load_clip(config.frozen.clip, dtype="float32")
    dtype = compute_dtype(config.training.dtype, jax.default_backend())
    return dataclasses.replace(clip, module=clip.module.clone(dtype=dtype))


def _frozen(config: ConfigDict, clip: Clip | None, data, extras: PyTree | None) -> tuple[PyTree, PyTree]:
    """The frozen parameters that the task reads, and what of them belongs into the checkpoint; `extras` is what a
    checkpoint already holds."""
    if clip is None:
        return {}, {}
    if config.task.kind != "diffusion_prior":
        return {"clip": clip.params}, {}
    extras = extras or {"statistics": embedding_statistics(clip, data)}
    return {"clip": clip.params, **extras}, extras


def store_embeddings(config: ConfigDict, directory: epath.PathLike) -> dict[str, dict[str, int]]:
    """Embeds both splits of `config.data` by `config.frozen.clip` into a new folder, which a prior then trains on with
    `config.data.source` "embeddings" and `config.data.dir` that folder. Returns {split: {records, unreadable}}.

    The pictures are spread over all devices of this process.
    """
    embedding_store.check_new(directory)
    if not config.frozen.clip:
        raise ValueError("config.frozen.clip is None; embeddings are made by a CLIP: a cascade's name or folder")
    clip = _load_frozen_clip(config)
    data = pipeline.check(config.data)
    if data.source == "embeddings":
        raise ValueError("config.data.source is embeddings; name the source of the pictures")
    sources = {split: open_source(data, split) for split in (data.split, data.eval_split)}
    return embedding_store.write_store(
        directory,
        sources,
        image_encoder(clip),
        clip=parameters.digest(clip.params),
        data=describe(data),
        config=data,
        rows=ROWS * jax.local_device_count(),
    )


def _check_embeddings(config: ConfigDict, clip: Clip | None) -> None:
    if config.task.kind != "diffusion_prior":
        raise ValueError(
            f"config.data.source is embeddings, which have no pictures, and the task {config.task.kind!r} learns from "
            "pictures; the prior alone can train on them"
        )
    digest = parameters.digest(clip.params)
    embedding_store.check_made_by(config.data.dir, clip=digest, config=config.data)


def embedding_statistics(clip: Clip, data, rows: int = STATISTICS_ROWS) -> dict[str, np.ndarray]:
    """Mean and deviation of each dimension of CLIP's image embeddings, over the first `rows` rows of training data, or
    over one epoch where that is less."""
    rows, seen = min(rows, len(data)), []
    for batch in data.batches(0):
        embeddings = batch["embedding"] if "embedding" in batch else encode_image(clip, batch["image"])
        seen.append(np.asarray(embeddings, np.float64))
        if sum(map(len, seen)) >= rows:
            break
    embeddings = np.concatenate(seen)
    return {"mean": embeddings.mean(0).astype(np.float32), "std": embeddings.std(0).astype(np.float32)}


def _set(config: ConfigDict, name: str, text: str) -> None:
    """Sets one leaf from its text, as the type that it has."""
    *sections, leaf = name.split(".")
    node = config
    for depth, section in enumerate([*sections, leaf]):
        if not isinstance(node, ConfigDict) or section not in node:
            known = ", ".join(sorted(node.keys())) if isinstance(node, ConfigDict) else "none below it"
            where = ".".join(["config", *sections[:depth]])
            raise ValueError(f"--config.{name}: {where} has no field {section!r}; known: {known}")
        node = node[section] if depth < len(sections) else node
    old = node[leaf]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    if isinstance(old, str) and not isinstance(value, str) and value is not None:
        value = text
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(old, bool) != isinstance(value, bool) and old is not None:
        raise ValueError(f"--config.{name}={text}: a {type(old).__name__} is wanted, such as {old!r}")
    try:
        node[leaf] = value
    except TypeError as error:
        raise ValueError(f"--config.{name}={text}: a {type(old).__name__} is wanted, such as {old!r}") from error


def package(
    workdirs: Sequence[epath.PathLike],
    cascade: epath.PathLike,
    *,
    clip: epath.PathLike | None = None,
    draws: str | None = None,
) -> list[str]:
    """Writes the newest averaged parameters of each workdir into a cascade folder. Returns the stages' names.

    `clip` names a cascade whose CLIP is taken along, as it is, with its tokenizer; a CLIP of a workdir brings its own.
    The prior brings the statistics of the embeddings. How a stage is sampled is what `unclip train` was last given for
    the workdir, be it after the training had ended. Raises ValueError for a workdir without a checkpoint, two sources of
    one stage, an output folder that `check_output` refuses, a stage that was trained beside another CLIP than the
    cascade's, or one for a bundled cascade that does not say what it was trained on; then nothing is written.
    """
    source, name = (None, None) if clip is None else locate_clip(clip)
    tasks = [restore_config(workdir)["task"] for workdir in workdirs]
    named = [(str(workdir), task["stage"]) for workdir, task in zip(workdirs, tasks)]
    named += [] if clip is None else [(f"--clip {clip}", name)]
    _check_distinct(named)
    brings_tokenizer = clip is not None or any(task["kind"] == "clip" for task in tasks)
    check_output(cascade, [stage for _, stage in named], tokenizer=brings_tokenizer)
    recover(cascade)  # the paths of files that are read from it must not change until it is written
    stages, frozen, taken, tokenizer, statistics = {}, {}, {}, None, None
    if clip is not None:
        stage = load_stage(resolve(source) / name, dtype="float32")
        taken[name], tokenizer = (stage.config, stage.params), current(resolve(source), TOKENIZER)
    for workdir in workdirs:
        trained = restore_params(workdir)
        config, kind = trained.config, trained.config["task"]["kind"]
        name = config["task"]["stage"]
        record = {"kind": kind, "model": config["model"], "trained": _how_trained(trained)}
        if kind != "clip":
            sampling = files.read_json(epath.Path(workdir) / "config.json")["sampling"]
            record |= {"diffusion": config["diffusion"], "sampling": sampling, "frozen": trained.frozen}
        stages[name], frozen[name] = (record, _of_network(trained.params)), trained.frozen
        tokenizer = epath.Path(workdir) / TOKENIZER if kind == "clip" else tokenizer
        statistics = trained.extras.get("statistics", statistics)
    stages = {name: (config, jax.tree.map(np.float16, params)) for name, (config, params) in stages.items()}
    stages |= {name: (config, _smallest(params)) for name, (config, params) in taken.items()}
    _check_frozen_clip(frozen, stages, cascade)
    if is_bundled(cascade):
        _check_trained(stages)
    write_stages(cascade, stages, tokenizer=tokenizer, statistics=statistics, draws=draws, order=ORDER, dtype=None)
    return list(stages)


def _check_distinct(stages: Sequence[tuple[str, str]]) -> None:
    """Raises ValueError if two of the pairs (source, stage name) have the same stage name."""
    sources: dict[str, str] = {}
    for source, stage in stages:
        if stage in sources:
            raise ValueError(
                f"Workdirs must be of different stages, got {sources[stage]!r} and {source!r}, both of stage "
                f"{stage!r}. Package one of them."
            )
        sources[stage] = source


def _smallest(params: PyTree) -> PyTree:
    """As float16, where that says the same."""
    halves = jax.tree.map(np.float16, params)
    return halves if jax.tree.all(jax.tree.map(np.array_equal, halves, params)) else params


def _check_trained(stages: dict[str, tuple]) -> None:
    """Whoever is given a bundled stage can see what it learned from."""
    for name, (config, *_) in stages.items():
        missing = [field for field in TRAINED if field not in config.get("trained", {})]
        if missing:
            raise ValueError(
                f"{name} does not say of its training: {', '.join(missing)}. A bundled cascade takes stages that "
                "`unclip train` trained from its start on, with a version that notes these"
            )


def _check_frozen_clip(frozen: dict[str, dict[str, str]], stages: dict, cascade: epath.PathLike) -> None:
    wanted = {name: digests["clip"] for name, digests in frozen.items() if "clip" in digests}
    if not wanted:
        return
    if "clip" in stages:  # as it will be read from its file
        params = jax.tree.map(np.float32, stages["clip"][1])
    else:
        params = load_clip(cascade, dtype="float32").params
    found = parameters.digest(params)
    for name, digest in wanted.items():
        if digest != found:
            raise ValueError(
                f"{name} was trained beside a CLIP of digest {digest}, and the cascade {str(cascade)!r} has {found}; "
                "package it with the CLIP that it was trained beside"
            )
