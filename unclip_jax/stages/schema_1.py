"""Cascade folders of schema 1 as specs. Nothing else knows their form.

In schema 1, cascade.json held the embedding statistics, all stages shared the folder's tokenizer, a stage's config.json
named the digest of its CLIP under `frozen`, and what a stage upsamples from followed from its channels, its place and
its name.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unclip_jax.arrays import PyTree
from unclip_jax.stages.embedding_statistics import EmbeddingStatistics
from unclip_jax.stages.spec import SCHEMA

OLD_SCHEMA = 1
_READS_CLIP = ("diffusion_prior", "decoder")
_READS_CAPTIONS = ("clip", "glide")
_IMAGE_KINDS = ("decoder", "upsampler", "glide", "unet")
_SIZES = re.compile(r".*_(\d+)_to_(\d+)")


@dataclasses.dataclass(frozen=True)
class Upgraded:
    """The stages of a folder in today's form.

    Attributes:
      configs: Content of each stage's config.json, see `spec.from_json`.
      extras: Untrained arrays of each stage.
      tokenizer_stages: The stages that read the folder's tokenizer.
    """

    configs: Mapping[str, dict[str, Any]]
    extras: Mapping[str, PyTree]
    tokenizer_stages: Sequence[str]


def upgrade(index: Mapping[str, Any], configs: Mapping[str, Mapping[str, Any]]) -> Upgraded:
    """Converts a folder of schema 1.

    Args:
      index: Content of cascade.json.
      configs: Content of every stage's config.json, in the order of the stages.
    """
    clip = next((name for name, config in configs.items() if config.get("kind") == "clip"), "clip")
    new, size = {}, None
    for name, config in configs.items():
        new[name] = _stage(name, config, clip, size)
        if config.get("kind") in _IMAGE_KINDS:
            size = config.get("model", {}).get("image_size")
    statistics = index.get("embedding_statistics")
    priors = [name for name, config in configs.items() if config.get("kind") == "diffusion_prior"]
    return Upgraded(
        configs=new,
        extras={} if statistics is None else dict.fromkeys(priors, _statistics(statistics)),
        tokenizer_stages=[name for name, config in configs.items() if config.get("kind") in _READS_CAPTIONS],
    )


def _stage(name: str, config: Mapping[str, Any], clip: str, size: int | None) -> dict[str, Any]:
    """One stage.

    Args:
      clip: Name of the cascade's CLIP.
      size: Size of the images of the stage before it; None if it is the first.
    """
    known = ("kind", "model", "diffusion", "sampling", "frozen", "trained", "last_step", "schema")
    new = {field: value for field, value in config.items() if field not in known}  # reported by whoever parses it
    new |= {field: config[field] for field in ("kind", "model", "diffusion") if field in config}
    if "sampling" in config:
        new["sampling"] = _sampling(config["sampling"])
    if config.get("kind") in _READS_CLIP:
        digest = config.get("frozen", {}).get("clip")
        new["encoders"] = {"clip": {"stage": clip, **({} if digest is None else {"digest": digest})}}
    if config.get("trained") is not None:
        new["provenance"] = config["trained"]
    if config.get("last_step") is not None:
        new["last_step_params"] = True
    return {"schema": SCHEMA, **new, **_inputs(name, config, size)}


def _inputs(name: str, config: Mapping[str, Any], size: int | None) -> dict[str, Any]:
    """What the network receives beside the noisy image: 3 channels of a low-resolution image, 4 of a known region."""
    kind, channels = config.get("kind"), config.get("model", {}).get("in_channels", 3)
    upsamples = kind == "upsampler" or (kind in ("glide", "unet") and channels in (6, 10))
    masked = kind == "glide" and channels in (7, 10)
    return ({"low_res_size": _low_res_size(name, config, size)} if upsamples else {}) | (
        {"mask_channels": True} if masked else {}
    )


def _low_res_size(name: str, config: Mapping[str, Any], size: int | None) -> int:
    """The size that a stage upsamples from: that in its name if the name says its own size too; otherwise that of the
    stage before it; otherwise a quarter of its own, as in the paper."""
    own, named = config.get("model", {}).get("image_size"), _SIZES.fullmatch(name)
    if named and own in (None, int(named[2])):
        return int(named[1])
    return size or (int(named[1]) if named else max(own // 4, 1) if isinstance(own, int) else 1)


def _sampling(old: Mapping[str, Any]) -> dict[str, Any]:
    return {"guidance_scale" if name == "scale" else name: value for name, value in old.items()}


def _statistics(stored: Mapping[str, Sequence[float]]) -> PyTree:
    arrays = {name: np.asarray(stored.get(name), np.float32) for name in ("mean", "std")}
    return EmbeddingStatistics(**arrays).to_extras()
