"""A published model as a cascade: opened where it lies, or written as a cascade folder."""

import dataclasses
import functools
from collections.abc import Sequence

import jax
from etils import epath

from unclip_jax.arrays import PyTree
from unclip_jax.cascades.cascade import Cascade, Stage, on_devices, shapes
from unclip_jax.cascades.folder import chosen_stages, is_cascade, write_stages
from unclip_jax.cascades.tokenizers import open_tokenizer
from unclip_jax.gpt2_tokenizer import GPT2Tokenizer
from unclip_jax.models.precision import AUTO, compute_dtype
from unclip_jax.models.registry import network
from unclip_jax.parameters import on_host
from unclip_jax.pretrained import registry
from unclip_jax.pretrained.published import Published, PublishedStage, Weights
from unclip_jax.pretrained.weight_mapping import check, convert
from unclip_jax.tokenizer import Tokenizer


def recognise(
    source: epath.PathLike, *, clip: epath.PathLike | None = None, tokenizer: epath.PathLike | None = None
) -> Published:
    """`registry.recognise`, with a tokenizer: its own, or that of the folder or repository `tokenizer`.

    Raises ValueError where it needs one and there is none, and for a cascade folder, which is no published model.
    """
    if is_cascade(source):
        raise ValueError(f"{str(source)!r} is a cascade already; a published model is wanted")
    published = registry.recognise(source, clip=clip)
    if tokenizer is not None:
        if published.tokenizer_name is None:
            raise ValueError(f"{str(source)!r} ({published.family}) reads no captions; leave out {str(tokenizer)!r}")
        published = dataclasses.replace(published, tokenizer=registry.find(tokenizer))
    if published.tokenizer is None and published.tokenizer_name is not None:
        raise ValueError(
            f"{str(source)!r} ({published.family}) brings no tokenizer; give the folder or the hub's name of one: "
            f"--tokenizer {published.tokenizer_name}, in Python tokenizer="
        )
    return published


def open_published(
    published: Published, *, source: str, stages: Sequence[str] | None, devices: Sequence[jax.Device], dtype: str = AUTO
) -> Cascade:
    """The cascade of a published model; arguments as in `load_cascade`."""
    tokenizer = _tokenizer(published)
    by_name = {stage.name: stage for stage in published.stages}
    return Cascade(
        stages={name: _open(by_name[name], devices, dtype) for name in chosen_stages(stages, list(by_name), source)},
        tokenizer=tokenizer,
        statistics=published.statistics,
        draws=None,
        devices=tuple(devices),
        path=source,
    )


def write_published(published: Published, folder: epath.PathLike) -> list[str]:
    """Writes the cascade folder of a published model, each tensor in its own type. Returns the stages' names.

    Raises ValueError, and writes nothing, where a tensor is missing, left over or of another shape, or the tokenizer is
    another network's.
    """
    _tokenizer(published)
    expected = {stage.name: _shapes(stage) for stage in published.stages}
    for stage in published.stages:
        for weights in _weights(stage):
            check(weights.tensors, weights.rules, expected[stage.name], what=_what(stage))
    stages = {stage.name: functools.partial(_converted, stage, expected[stage.name]) for stage in published.stages}
    write_stages(folder, stages, tokenizer=published.tokenizer, statistics=published.statistics, dtype=None)
    return list(expected)


def _converted(stage: PublishedStage, expected: PyTree) -> tuple:
    """The stage as `write_stages` takes it."""
    networks = [
        convert(weights.tensors, weights.rules, expected, what=_what(stage), place=on_host(None))
        for weights in _weights(stage)
    ]
    return stage.config, *networks


def _open(stage: PublishedStage, devices: Sequence[jax.Device], dtype: str) -> Stage:
    dtype = compute_dtype(dtype, devices[0].platform)
    expected, place = _shapes(stage), on_devices(devices, dtype)
    params, *last = (
        convert(weights.tensors, weights.rules, expected, what=_what(stage), place=place)
        for weights in _weights(stage)
    )
    module = network(stage.config["kind"], stage.config["model"], dtype=dtype)
    return Stage(stage.name, stage.config, module, params, last_params=last[0] if last else None)


def _weights(stage: PublishedStage) -> list[Weights]:
    return [stage.weights] if stage.last is None else [stage.weights, stage.last]


def _shapes(stage: PublishedStage):
    return shapes(stage.config["kind"], network(stage.config["kind"], stage.config["model"]))


def _what(stage: PublishedStage) -> str:
    return f"weights of {stage.name} in {stage.source!r}"


def _tokenizer(published: Published) -> Tokenizer | GPT2Tokenizer | None:
    """Raises ValueError where it is another network's."""
    source = published.stages[0].source
    return open_tokenizer(published.tokenizer, {stage.name: stage.config for stage in published.stages}, source=source)
