"""Conversion of cascade folders of schema 1 to the current schema.

No other module depends on the old format. In schema 1, cascade.json contained the embedding statistics, and all stages
shared the folder's tokenizer. The config.json of a stage stored the digest of its CLIP under `frozen`. The
low-resolution size of an upsampler had to be inferred from its channels, its position and its name.
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
    """Stages of a cascade folder, converted to the current schema.

    Attributes:
      configs: Content of config.json by stage, see `spec.from_json`.
      extras: Untrained arrays by stage.
      tokenizer_stages: Names of the stages that use the folder's tokenizer.
    """

    configs: Mapping[str, dict[str, Any]]
    extras: Mapping[str, PyTree]
    tokenizer_stages: Sequence[str]


def upgrade(index: Mapping[str, Any], configs: Mapping[str, Mapping[str, Any]]) -> Upgraded:
    """Converts a cascade folder of schema 1.

    Args:
      index: Content of cascade.json.
      configs: Content of config.json by stage, in execution order.
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
    """Converts one stage. `size` is the image size of the image stage before it, or None."""
    known = ("kind", "model", "diffusion", "sampling", "frozen", "trained", "last_step", "schema")
    new = {field: value for field, value in config.items() if field not in known}  # rejected by the parser
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
    """Infers additional inputs from their channels: 3 for a low-resolution image, 4 for a known region."""
    kind, channels = config.get("kind"), config.get("model", {}).get("in_channels", 3)
    upsamples = kind == "upsampler" or (kind in ("glide", "unet") and channels in (6, 10))
    masked = kind == "glide" and channels in (7, 10)
    return ({"low_res_size": _low_res_size(name, config, size)} if upsamples else {}) | (
        {"mask_channels": True} if masked else {}
    )


def _low_res_size(name: str, config: Mapping[str, Any], size: int | None) -> int:
    """Infers the size of the images that a stage upsamples.

    The name determines it if it also contains the stage's own size. Otherwise it is the image size of the stage before.
    For a first image stage, it is the size in the name or, as in the paper, a quarter of the stage's own size.
    """
    own, named = config.get("model", {}).get("image_size"), _SIZES.fullmatch(name)
    if named and own in (None, int(named[2])):
        return int(named[1])
    return size or (int(named[1]) if named else max(own // 4, 1) if isinstance(own, int) else 1)


def _sampling(old: Mapping[str, Any]) -> dict[str, Any]:
    return {"guidance_scale" if name == "scale" else name: value for name, value in old.items()}


def _statistics(stored: Mapping[str, Sequence[float]]) -> PyTree:
    arrays = {name: np.asarray(stored.get(name), np.float32) for name in ("mean", "std")}
    return EmbeddingStatistics(**arrays).to_extras()
