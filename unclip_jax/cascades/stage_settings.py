"""Sampling settings of a call: the defaults of each stage, overridden by the arguments of the call."""

from collections.abc import Mapping
from typing import Any

from unclip_jax import fields
from unclip_jax.cascades.cascade import Cascade
from unclip_jax.deprecation import warn_renamed
from unclip_jax.diffusion.settings import SamplingSettings
from unclip_jax.kinds import kind_of
from unclip_jax.kinds.kind import CLIP
from unclip_jax.stages.stage import Stage

PRIOR = "prior"  # alias of the prior that runs
_RENAMED = {"scale": "guidance_scale"}


def stage_settings(
    cascade: Cascade,
    prior: Stage | None,
    base: Stage | None,
    *,
    arguments: Mapping[str, Mapping[str, Any]],
    steps: Mapping[str, int | str],
    sampler: Mapping[str, str],
    sampling: Mapping[str, Mapping[str, Any]],
) -> dict[str, SamplingSettings]:
    """Returns the validated sampling settings of every stage that is sampled.

    Args:
      cascade: The cascade.
      prior: Prior to which the alias "prior" refers. If None, the alias is unknown.
      base: First image stage, which may sample several candidates.
      arguments: {stage: {field: value}}. Takes precedence over the arguments below.
      steps: {stage: steps}, see `text_to_image`. In this and the arguments below, None means the default of the stage.
      sampler: {stage: sampler}, see `text_to_image`.
      sampling: {stage: {field: value}}, see `text_to_image`.

    Raises:
      ValueError: If a stage or field is unknown, or a value is invalid.
    """
    known = [stage.name for stage in cascade.stages.values() if kind_of(stage).is_sampled]
    full = {PRIOR: prior.name} if prior is not None else {}
    overrides: dict[str, dict[str, Any]] = {name: {} for name in known}
    for what, values in (("steps", steps), ("sampler", sampler), ("sampling", sampling)):
        named = {full.get(name, name): value for name, value in values.items()}
        unknown = [name for name in named if name not in known]
        if unknown:
            raise ValueError(
                f"{what} must name stages of the cascade, got {', '.join(unknown)}. Available: {', '.join(known)}."
            )
        new = named if what == "sampling" else {name: {what: value} for name, value in named.items()}
        for name, fields_of_stage in new.items():
            # `steps` and `sampler` take precedence over the same fields of `sampling`.
            overrides[name] = {**_current_names(fields_of_stage or {}), **_set(overrides[name])}
    return {
        name: settings_of(cascade, cascade.stages[name], {**overrides[name], **arguments.get(name, {})}, base=base)
        for name in known
    }


def settings_of(
    cascade: Cascade, stage: Stage, overrides: Mapping[str, Any], *, base: Stage | None = None
) -> SamplingSettings:
    """Returns the validated sampling settings of one stage.

    Args:
      cascade: The cascade.
      stage: A stage of the cascade.
      overrides: {field: value} that replace the defaults of the stage. None means the default.
      base: First image stage, the only image stage that may sample several candidates. If None, any may.

    Raises:
      ValueError: If a field is unknown, or a value is invalid or not supported by the stage.
    """
    kind = kind_of(stage)
    overrides, known = _set(overrides), fields.names(kind.settings)
    unknown = sorted(set(overrides) - set(known))
    if unknown:
        raise ValueError(f"sampling of {stage.name} has no field {', '.join(unknown)}. Available: {', '.join(known)}.")
    defaults = {name: getattr(stage.spec.sampling, name) for name in known}
    settings = kind.resolve(stage.spec, kind.settings(**{**defaults, **overrides}))
    if kind.denoising is not None:
        kind.denoising.check_scale(stage.name, settings.guidance_scale)
    if settings.candidates > 1:
        _check_candidates(cascade, stage, base)
    _check_guides(cascade, stage, settings)
    return settings


def _check_candidates(cascade: Cascade, stage: Stage, base: Stage | None) -> None:
    """Raises ValueError unless the stage is a prior, or a base stage whose CLIP has an image encoder."""
    if kind_of(stage).produces == "embedding":
        return
    ref = stage.spec.encoders.get(CLIP)
    if ref is None or (base is not None and stage is not base):
        raise ValueError(f"candidates of {stage.name} must be 1. Only priors and decoders support several candidates.")
    clip = cascade.stages.get(ref.stage)
    if clip is not None and kind_of(clip).image_encoder_size(clip.module) is None:
        raise ValueError(f"candidates of {stage.name} must be 1. Its CLIP has no image encoder to rank them.")


def _check_guides(cascade: Cascade, stage: Stage, settings: SamplingSettings) -> None:
    known = [name for name, guide in cascade.stages.items() if kind_of(guide).guide is not None]
    unknown = [name for name in settings.guides if name not in known]
    if unknown:
        available = ", ".join(known) or "none"
        raise ValueError(f"guides of {stage.name} must name guides, got {', '.join(unknown)}. Available: {available}.")


def _current_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """Replaces deprecated names of fields, with a warning."""
    for old, new in _RENAMED.items():
        if old in values:
            warn_renamed(f"sampling field {old!r}", repr(new), where="unclip_jax")
    return {_RENAMED.get(name, name): value for name, value in _set(values).items()}


def _set(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
