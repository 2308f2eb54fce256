"""The stages, a function for each sort: the prior, and all that make pictures.

Every picture's noise comes from (seed, stage, number of the picture), a candidate's from its own number too.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from unclip_jax import images
from unclip_jax.arrays import Float, Int, PyTree
from unclip_jax.cascades import bindings
from unclip_jax.cascades.cascade import SAMPLED, Cascade, Stage
from unclip_jax.cascades.embedding import clip_of, encode_image, text_features
from unclip_jax.cascades.sampling import Progress, Settings, run_stage
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
    each: int = 1,
    progress: Progress | None = None,
) -> Float["M E"]:
    """M = N * `each` image embeddings for N captions, raw: for every one, `settings.candidates` are drawn, and the one
    with the largest cosine to the caption's embedding is taken (unCLIP, section 2.2, with cosine for the product)."""
    stage = cascade.only("diffusion_prior")
    count, candidates = len(numbers), each * settings.candidates
    repeated = jax.tree.map(lambda x: np.repeat(x, candidates, axis=0), text)
    z = run_stage(
        stage,
        bindings.prior,
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
    raw = (z * cascade.statistics["std"] + cascade.statistics["mean"]).reshape(count * each, settings.candidates, -1)
    nearness = _cosine(raw, np.repeat(text.pooled, each, axis=0)[:, None])
    return raw[np.arange(len(raw)), np.argmax(nearness, axis=1)]


def run_painter(
    cascade: Cascade,
    stage: Stage,
    seen: PyTree,
    low_res: Float["N h w 3"] | None = None,
    *,
    settings: Settings,
    seed: int,
    numbers: Int["N"],
    candidates: Int["N"] | None = None,
    progress: Progress | None = None,
) -> Float["N H W 3"]:
    """Pictures in [-1, 1] of the stage's size.

    Args:
      seen: what the stage's network sees, N rows of each: a decoder raw image embeddings and the captions' features,
        GLIDE the captions' tokens and mask, a U-Net class labels, or None where it has no classes; an upsampler None.
      low_res: the pictures in [-1, 1] that it enlarges; None for one that enlarges none.
      candidates: which candidate for its picture each row is; None: each is the first.
      The rest: as in `run_stage`.
    """
    size = stage.module.image_size
    return run_stage(
        stage,
        bindings.PAINTERS[stage.kind],
        settings=settings,
        seed=seed,
        numbers=numbers,
        candidates=np.zeros(len(numbers)) if candidates is None else candidates,
        conditions=(seen, None if low_res is None else np.asarray(low_res, np.float32)),
        shared=_of_the_empty_caption(cascade, stage),
        shape=(size, size, 3),
        devices=cascade.devices,
        rows=_rows(size),
        progress=progress,
    )


def nearest(cascade: Cascade, pictures: Float["M H W 3"], wanted: Float["N E"]) -> Float["N H W 3"]:
    """Of M / N candidates for each of N pictures, in [-1, 1], the one whose embedding has the largest cosine to the
    wanted one."""
    embeddings = encode_image(clip_of(cascade), np.asarray(images.to_uint8(pictures)))
    scores = _cosine(embeddings.reshape(len(wanted), -1, embeddings.shape[-1]), wanted[:, None])
    candidates = np.asarray(pictures).reshape(*scores.shape, *pictures.shape[1:])
    return candidates[np.arange(len(wanted)), np.argmax(scores, axis=1)]


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
    if stage.kind in bindings.UNGUIDED and settings.scale != 1.0:
        raise ValueError(f"scale of {stage.name} is {settings.scale}; it must be 1, since it cannot be guided")
    settings.check(stage.name, stage.config["diffusion"]["steps"])
    if stage.kind not in ("diffusion_prior", "decoder") and settings.candidates > 1:
        raise ValueError(f"candidates of {stage.name} must be 1: several are for the prior and the decoder")
    return settings


def _not_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def empty_like(cascade: Cascade, count: int) -> TextFeatures:
    """The empty caption's features for `count` rows."""
    return jax.tree.map(lambda x: np.repeat(x, count, axis=0), _empty_features(cascade))


def _empty_features(cascade: Cascade) -> TextFeatures:
    return text_features(clip_of(cascade), [""])


def _of_the_empty_caption(cascade: Cascade, stage: Stage) -> PyTree:
    """What of the empty caption the unconditional half of a painter sees."""
    if stage.kind == "decoder":
        return _empty_features(cascade)
    return cascade.tokenizer.encode([""]) if stage.kind == "glide" else None


def _rows(size: int) -> int:
    return next((rows for side, rows in ROWS.items() if size <= side), 1)


def _cosine(a: Float["... E"], b: Float["... E"]) -> Float["..."]:
    return np.sum(a * b, axis=-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))


def check_names(cascade: Cascade, names: Sequence[str], what: str) -> None:
    """Raises ValueError for a name that is no sampled stage of the cascade."""
    known = [stage.name for stage in cascade.stages.values() if stage.kind in SAMPLED]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"{what} names {', '.join(unknown)}, which the cascade has not; known: {', '.join(known)}")
