"""The stages, a function each: prior, decoder, upsampler; and each one's network as the sampler calls it.

Under classifier-free guidance a network answers 2B rows in one call, the conditional half first: the prior's other half
sees the empty caption, the decoder's neither embedding nor caption. Every picture's noise comes from (seed, stage,
number of the picture), a candidate of the prior's from its own number too.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from unclip_jax import images
from unclip_jax.arrays import Float, Int, PyTree
from unclip_jax.cascades.cascade import Cascade, Stage
from unclip_jax.cascades.embedding import clip_of, text_features
from unclip_jax.cascades.sampling import Progress, Settings, run_stage
from unclip_jax.diffusion.denoiser import Network
from unclip_jax.models.clip import TextFeatures

# Rows on a device at a time, by the side of the picture; embeddings count as the smallest pictures.
ROWS = {16: 256, 64: 64, 256: 16, 1024: 1}


def run_prior(
    cascade: Cascade,
    text: TextFeatures,
    *,
    settings: Settings,
    seed: int,
    numbers: Int["N"],
    progress: Progress | None = None,
) -> Float["N E"]:
    """Image embeddings for captions, raw: for each the candidate with the largest cosine to the caption's embedding
    (unCLIP, section 2.2, with cosine for the product)."""
    stage = cascade.only("diffusion_prior")
    count, candidates = len(numbers), settings.candidates
    repeated = jax.tree.map(lambda x: np.repeat(x, candidates, axis=0), text)
    z = run_stage(
        stage,
        _bind_prior,
        settings=settings,
        seed=seed,
        numbers=np.repeat(numbers, candidates),
        candidates=np.tile(np.arange(candidates), count),
        conditions=repeated,
        shared=_empty_features(cascade),
        shape=(stage.module.embed_dim,),
        devices=cascade.devices,
        rows=_rows(16),
        progress=progress,
    )
    raw = (z * cascade.statistics["std"] + cascade.statistics["mean"]).reshape(count, candidates, -1)
    return raw[np.arange(count), np.argmax(_cosine(raw, text.pooled[:, None]), axis=1)]


def run_decoder(
    cascade: Cascade,
    embeddings: Float["N E"],
    text: TextFeatures,
    *,
    settings: Settings,
    seed: int,
    numbers: Int["N"],
    progress: Progress | None = None,
) -> Float["N H W 3"]:
    """Small pictures in [-1, 1] from raw image embeddings and captions."""
    stage = cascade.only("decoder")
    size = stage.module.image_size
    return run_stage(
        stage,
        _bind_decoder,
        settings=settings,
        seed=seed,
        numbers=numbers,
        candidates=np.zeros(len(numbers)),
        conditions=(np.asarray(embeddings, np.float32), text),
        shared=_empty_features(cascade),
        shape=(size, size, 3),
        devices=cascade.devices,
        rows=_rows(size),
        progress=progress,
    )


def run_upsampler(
    cascade: Cascade,
    stage: Stage,
    low_res: Float["N h w 3"],
    *,
    settings: Settings,
    seed: int,
    numbers: Int["N"],
    progress: Progress | None = None,
) -> Float["N H W 3"]:
    """Pictures in [-1, 1] of the stage's size from smaller ones in [-1, 1]."""
    size = stage.module.image_size
    return run_stage(
        stage,
        _bind_upsampler,
        settings=settings,
        seed=seed,
        numbers=numbers,
        candidates=np.zeros(len(numbers)),
        conditions=np.asarray(low_res, np.float32),
        shared=(),
        shape=(size, size, 3),
        devices=cascade.devices,
        rows=_rows(size),
        progress=progress,
    )


def stage_settings(stage: Stage, given: Mapping[str, Any] | None = None, **overrides: Any) -> Settings:
    """The stage's own sampling settings, over them those `given`, over them the overrides; None anywhere says nothing.
    Checked."""
    given = _not_none(given or {}) | _not_none(overrides)
    known = [field.name for field in dataclasses.fields(Settings)]
    own = stage.config["sampling"]
    if not {"sampler", "steps"} <= set(own) <= set(known):
        raise ValueError(f"sampling of {stage.name} has {', '.join(own)}; it needs sampler and steps, of {known}")
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ValueError(f"sampling of {stage.name} names {', '.join(unknown)}; known: {', '.join(known)}")
    settings = Settings(**{**own, **given})
    return settings.check(stage.name, stage.config["diffusion"]["steps"])


def _not_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def empty_like(cascade: Cascade, count: int) -> TextFeatures:
    """The empty caption's features for `count` rows."""
    return jax.tree.map(lambda x: np.repeat(x, count, axis=0), _empty_features(cascade))


def _empty_features(cascade: Cascade) -> TextFeatures:
    return text_features(clip_of(cascade), [""])


def _rows(size: int) -> int:
    return next((rows for side, rows in ROWS.items() if size <= side), 1)


def _cosine(a: Float["... E"], b: Float["... E"]) -> Float["..."]:
    return np.sum(a * b, axis=-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))


def _with_empty(text: TextFeatures, empty: TextFeatures) -> TextFeatures:
    """The captions' features, and behind them as many of the empty caption's."""
    return jax.tree.map(lambda x, e: jnp.concatenate([x, jnp.broadcast_to(e, x.shape)]), text, empty)


def _bind_prior(module: nn.Module, params: PyTree, text: TextFeatures, empty: TextFeatures, guided: bool) -> Network:
    text = _with_empty(text, empty) if guided else text
    return lambda z, t: module.apply({"params": params}, z, t, text)


def _bind_decoder(module: nn.Module, params: PyTree, conditions: PyTree, empty: TextFeatures, guided: bool) -> Network:
    z, text = conditions
    if not guided:
        return lambda x, t: module.apply({"params": params}, x, t, z, text)
    drop = jnp.arange(2 * len(z)) >= len(z)
    z, text = jnp.concatenate([z, z]), _with_empty(text, empty)
    return lambda x, t: module.apply({"params": params}, x, t, z, text, drop_image=drop)


def _bind_upsampler(module: nn.Module, params: PyTree, low_res: jax.Array, shared: tuple, guided: bool) -> Network:
    if guided:
        raise ValueError("an upsampler is not guided: its scale must be 1")
    enlarged = images.resize(low_res, module.image_size)
    return lambda x, t: module.apply({"params": params}, x, t, enlarged)


def check_names(cascade: Cascade, names: Sequence[str], what: str) -> None:
    """Raises ValueError for a name that is no sampled stage of the cascade."""
    known = [stage.name for stage in cascade.stages.values() if stage.kind != "clip"]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"{what} names {', '.join(unknown)}, which the cascade has not; known: {', '.join(known)}")
