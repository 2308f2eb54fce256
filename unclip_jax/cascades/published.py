"""Published models as cascades: loading them directly, or converting them to cascade folders."""

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
    """Identifies a published model and its tokenizer.

    Args:
      source: A file, a folder, or a hub id.
      clip: Source of the CLIP model, for models that do not include one.
      tokenizer: Folder or hub id of a tokenizer that replaces that of the model. If None, the model must include one if
        it has a text encoder.

    Raises:
      ValueError: If the source is not a known published model, is damaged or incomplete, or needs a tokenizer that is
        missing. Also if `clip` or `tokenizer` is given for a model that does not use it.
    """
    if is_cascade(source):
        raise ValueError(f"{str(source)!r} must be a published model, got a cascade.")
    published = registry.recognize(source, clip=clip)
    if tokenizer is not None:
        if published.tokenizer_name is None:
            raise ValueError(f"{str(source)!r} ({published.family}) uses no tokenizer. Omit {str(tokenizer)!r}.")
        published = dataclasses.replace(published, tokenizer=hub.find(tokenizer))
    if published.tokenizer is None and published.tokenizer_name is not None:
        raise ValueError(
            f"{str(source)!r} ({published.family}) includes no tokenizer. Pass a folder or hub id: "
            f"--tokenizer {published.tokenizer_name}, or tokenizer= in Python."
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
    """Loads a published model as a cascade.

    Args:
      published: The model.
      source: Its name, for error messages and `Cascade.path`.
      stages: Names of the stages to load, see `load_cascade`.
      devices: Local devices on which the parameters are replicated.
      dtype: Compute dtype, see `load_cascade`.

    Raises:
      ValueError: If a stage is unknown, or if its weights or tokenizer do not match the network.
    """
    by_name = {stage.name: stage for stage in published.stages}
    tokenizers = _tokenizers(published)
    loaded = {
        name: _load(by_name[name], tokenizers.get(name), devices, dtype)
        for name in chosen(stages, {name: stage.spec for name, stage in by_name.items()}, source)
    }
    return Cascade(loaded, None, tuple(devices), source)


def write_published(published: Published, folder: epath.PathLike) -> list[str]:
    """Writes a published model as a cascade folder, in which every tensor keeps its dtype.

    Args:
      published: The model.
      folder: Cascade folder to create or update.

    Returns:
      The names of the stages.

    Raises:
      ValueError: If weights or the tokenizer do not match the network of a stage. Nothing is written in this case.
    """
    with_tokenizer = _tokenizers(published)
    expected = {stage.name: _shapes(stage) for stage in published.stages}
    for stage in published.stages:
        for weights in _weights(stage):
            check(weights.tensors, weights.rules, expected[stage.name], what=_what(stage))
    stage_files = {
        stage.name: StageFiles(
            stage.spec,
            functools.partial(_import, stage, on_host(None)),
            extras=stage.extras,
            tokenizer=published.tokenizer if stage.name in with_tokenizer else None,
            dtype=None,
        )
        for stage in published.stages
    }
    write_stages(folder, stage_files)
    return list(expected)


def _load(
    stage: PublishedStage, tokenizer: CaptionTokenizer | None, devices: Sequence[jax.Device], dtype: str
) -> Stage:
    dtype = compute_dtype(dtype, devices[0].platform)
    module = kind_of(stage.spec).build(stage.spec, where=_what(stage), dtype=dtype)
    params, *last = _import(stage, place_on(devices, dtype))
    return Stage(stage.spec, module, params, stage.extras, last[0] if last else None, tokenizer)


def _import(stage: PublishedStage, place) -> list[PyTree]:
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
    """Returns the tokenizers of all stages that have one, after checking that they match the network."""
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
