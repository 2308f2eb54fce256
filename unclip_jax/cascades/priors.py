"""Selection of the prior in cascades with several priors."""

from collections.abc import Mapping

from unclip_jax.kinds import kind_of
from unclip_jax.kinds.kind import CLIP
from unclip_jax.stages.spec import StageSpec

_SUFFIX = "_prior"


def choose_prior(specs: Mapping[str, StageSpec], name: str | None, *, space: str | None = None) -> str | None:
    """Returns the full name of a prior.

    Args:
      specs: Specs of all stages by name, in execution order.
      name: Name of the prior, in full or without "_prior" ("diffusion" for "diffusion_prior"). If None, the first
        matching prior is chosen.
      space: Encoder whose image embeddings the prior must sample. If None, any encoder matches.

    Returns:
      The name, or None if `name` is None and there is no matching prior.

    Raises:
      ValueError: If there is no prior of this name, or if it samples embeddings of a different encoder.
    """
    priors = _priors(specs)
    if name is None:
        return next((prior for prior in priors if space in (None, _space(specs[prior]))), None)
    by_name = {full.removesuffix(_SUFFIX): full for full in priors} | {full: full for full in priors}
    if name not in by_name:
        known = ", ".join(dict.fromkeys([*priors, *by_name])) or "none"
        raise ValueError(f"prior must be one of {known}, got {name!r}.")
    prior = by_name[name]
    if space not in (None, _space(specs[prior])):
        raise ValueError(
            f"prior must sample embeddings of {space}, got {prior}, which samples those of another encoder."
        )
    return prior


def stages_with_prior(specs: Mapping[str, StageSpec], prior: str | None = None) -> list[str]:
    """Returns the names of all stages except unused priors; arguments as in `choose_prior`."""
    chosen = choose_prior(specs, prior)
    return [name for name in specs if name == chosen or name not in _priors(specs)]


def _space(spec: StageSpec) -> str | None:
    return spec.encoders[CLIP].stage if CLIP in spec.encoders else None


def _priors(specs: Mapping[str, StageSpec]) -> list[str]:
    return [name for name, spec in specs.items() if kind_of(spec).produces == "embedding"]
