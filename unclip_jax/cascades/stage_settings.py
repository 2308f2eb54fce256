"""Sampler settings of a call: each stage's own, with those of the call on top."""

from collections.abc import Mapping
from typing import Any

from unclip_jax import fields
from unclip_jax.cascades.cascade import Cascade
from unclip_jax.deprecation import warn_renamed
from unclip_jax.diffusion.settings import SamplingSettings
from unclip_jax.kinds import kind_of
from unclip_jax.kinds.kind import CLIP
from unclip_jax.stages.stage import Stage

PRIOR = "prior"  # stands for the prior that runs
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
    """Returns the checked settings of every stage that is sampled.

    Args:
      prior: The prior that "prior" stands for.
      base: The first image stage, which may sample several candidates.
      arguments: {stage: {field: value}}, which take precedence over the rest.
      steps, sampler, sampling: As in `text_to_image`. None as a value keeps the stage's own.

    Raises:
      ValueError: For an unknown stage or field, or an invalid value.
    """
    known = [stage.name for stage in cascade.stages.values() if kind_of(stage).is_sampled]
    full = {PRIOR: prior.name} if prior is not None else {}
    given: dict[str, dict[str, Any]] = {name: {} for name in known}
    for what, values in (("steps", steps), ("sampler", sampler), ("sampling", sampling)):
        named = {full.get(name, name): value for name, value in values.items()}
        unknown = [name for name in named if name not in known]
        if unknown:
            raise ValueError(
                f"{what} names {', '.join(unknown)}, which the cascade has not; known: {', '.join(known)}"
            )
        given_here = named if what == "sampling" else {name: {what: value} for name, value in named.items()}
        for name, fields_of_stage in given_here.items():
            # `steps` and `sampler` take precedence over the same fields of `sampling`.
            given[name] = {**_current_names(fields_of_stage or {}), **_set(given[name])}
    return {
        name: settings_of(cascade, cascade.stages[name], {**given[name], **arguments.get(name, {})}, base=base)
        for name in known
    }


def settings_of(
    cascade: Cascade, stage: Stage, given: Mapping[str, Any], *, base: Stage | None = None
) -> SamplingSettings:
    """Returns the settings of one stage, with the fields `given` on top of its own."""
    kind = kind_of(stage)
    given, known = _set(given), fields.names(kind.settings)
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ValueError(f"sampling of {stage.name} names {', '.join(unknown)}; known: {', '.join(known)}")
    own = {name: getattr(stage.spec.sampling, name) for name in known}
    settings = kind.resolve(stage.spec, kind.settings(**{**own, **given}))
    if kind.denoising is not None:
        kind.denoising.check_scale(stage.name, settings.guidance_scale)
    if settings.candidates > 1:
        _check_candidates(cascade, stage, base)
    _check_guides(cascade, stage, settings)
    return settings


def _check_candidates(cascade: Cascade, stage: Stage, base: Stage | None) -> None:
    """Several candidates are sampled by a prior, and by a first image stage whose CLIP can choose among images."""
    if kind_of(stage).produces == "embedding":
        return
    ref = stage.spec.encoders.get(CLIP)
    if ref is None or (base is not None and stage is not base):
        raise ValueError(f"candidates of {stage.name} must be 1: several are for the prior and the decoder")
    clip = cascade.stages.get(ref.stage)
    if clip is not None and kind_of(clip).image_encoder_size(clip.module) is None:
        raise ValueError(f"candidates of {stage.name} must be 1: CLIP has no image tower here, and cannot choose")


def _check_guides(cascade: Cascade, stage: Stage, settings: SamplingSettings) -> None:
    known = [name for name, guide in cascade.stages.items() if kind_of(guide).guide is not None]
    unknown = [name for name in settings.guides if name not in known]
    if unknown:
        listed = ", ".join(known) or "none"
        raise ValueError(f"guides of {stage.name} names {', '.join(unknown)}; stages that can guide: {listed}")


def _current_names(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields under their names of today."""
    for old, new in _RENAMED.items():
        if old in given:
            warn_renamed(f"sampling field {old!r}", repr(new), where="unclip_jax")
    return {_RENAMED.get(name, name): value for name, value in _set(given).items()}


def _set(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
