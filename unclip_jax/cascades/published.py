"""A published model as a cascade: loaded from its own files, or written as a cascade folder."""

import dataclasses
import functools
from collections.abc import Sequence

import jax
from etils import epath

from unclip_jax.arrays import PyTree
from unclip_jax.cascades.cascade import Cascade
from unclip_jax.cascades.folder import ChooseStages, chosen, place_on
from unclip_jax.cascades.folder_writing import StageFiles, write_stages
from unclip_jax.cascades.sources import is_cascade
from unclip_jax.kinds import kind_of
from unclip_jax.models.network import parameter_shapes
from unclip_jax.models.precision import AUTO, compute_dtype
from unclip_jax.parameters import on_host
from unclip_jax.pretrained import hub, registry
from unclip_jax.pretrained.published import Published, PublishedStage, Weights
from unclip_jax.pretrained.rules import check, import_params
from unclip_jax.stages.stage import CaptionTokenizer, Stage
from unclip_jax.tokenizers.open import open_tokenizer


def recognize(
    source: epath.PathLike, *, clip: epath.PathLike | None = None, tokenizer: epath.PathLike | None = None
) -> Published:
    """Identifies a published model, as `registry.recognize`, and its tokenizer: its own or that of `tokenizer`.

    Raises:
      ValueError: If it needs a tokenizer and there is none, or `source` is a cascade folder.
    """
    if is_cascade(source):
        raise ValueError(f"{str(source)!r} must be a published model, got a cascade.")
    published = registry.recognize(source, clip=clip)
    if tokenizer is not None:
        if published.tokenizer_name is None:
            raise ValueError(f"{str(source)!r} ({published.family}) reads no captions. Omit {str(tokenizer)!r}.")
        published = dataclasses.replace(published, tokenizer=hub.find(tokenizer))
    if published.tokenizer is None and published.tokenizer_name is not None:
        raise ValueError(
            f"{str(source)!r} ({published.family}) includes no tokenizer. Pass the folder or hub id of one: "
            f"--tokenizer {published.tokenizer_name}, in Python tokenizer=."
        )
    return published


def open_published(
    published: Published,
    *,
    source: str,
    stages: Sequence[str] | ChooseStages | None,
    devices: Sequence[jax.Device],
    dtype: str = AUTO,
) -> Cascade:
    """Loads the cascade of a published model; arguments as in `load_cascade`."""
    by_name = {stage.name: stage for stage in published.stages}
    tokenizers = _tokenizers(published)
    loaded = {
        name: _load(by_name[name], tokenizers.get(name), devices, dtype)
        for name in chosen(stages, {name: stage.spec for name, stage in by_name.items()}, source)
    }
    return Cascade(loaded, None, tuple(devices), source)


def write_published(published: Published, folder: epath.PathLike) -> list[str]:
    """Writes the cascade folder of a published model, each tensor in its own type.

    Returns:
      The names of the stages.

    Raises:
      ValueError: If a tensor is missing, unexpected or misshapen, or the tokenizer is another network's. Then nothing
        is written.
    """
    owners = _tokenizers(published)
    expected = {stage.name: _shapes(stage) for stage in published.stages}
    for stage in published.stages:
        for weights in _weights(stage):
            check(weights.tensors, weights.rules, expected[stage.name], what=_what(stage))
    written = {
        stage.name: StageFiles(
            stage.spec,
            functools.partial(_converted, stage, on_host(None)),
            extras=stage.extras,
            tokenizer=published.tokenizer if stage.name in owners else None,
            dtype=None,
        )
        for stage in published.stages
    }
    write_stages(folder, written)
    return list(expected)


def _load(
    stage: PublishedStage, tokenizer: CaptionTokenizer | None, devices: Sequence[jax.Device], dtype: str
) -> Stage:
    dtype = compute_dtype(dtype, devices[0].platform)
    module = kind_of(stage.spec).build(stage.spec, where=_what(stage), dtype=dtype)
    params, *last = _converted(stage, place_on(devices, dtype))
    return Stage(stage.spec, module, params, stage.extras, last[0] if last else None, tokenizer)


def _converted(stage: PublishedStage, place) -> list[PyTree]:
    expected = _shapes(stage)
    return [
        import_params(weights.tensors, weights.rules, expected, what=_what(stage), place=place)
        for weights in _weights(stage)
    ]


def _weights(stage: PublishedStage) -> list[Weights]:
    return [stage.weights] if stage.last is None else [stage.weights, stage.last]


def _shapes(stage: PublishedStage) -> PyTree:
    return parameter_shapes(kind_of(stage.spec).build(stage.spec, where=_what(stage)))


def _what(stage: PublishedStage) -> str:
    return f"weights of {stage.name} in {stage.source!r}"


def _tokenizers(published: Published) -> dict[str, CaptionTokenizer]:
    """The tokenizer of each stage that reads captions itself. Raises ValueError if it is another network's."""
    readers = [stage for stage in published.stages if kind_of(stage.spec).tokenizer is not None]
    return {
        stage.name: open_tokenizer(
            published.tokenizer,
            kind_of(stage.spec).tokenizer,
            stage.spec.model,
            name=f"{stage.name} of {published.stages[0].source!r}",
        )
        for stage in readers
    }
