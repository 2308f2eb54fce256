"""Plans: everything that a call will run, fully validated before any expensive work."""

import dataclasses
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unclip_jax import images
from unclip_jax.arrays import Float, Int, UInt8
from unclip_jax.cascades.cascade import Cascade
from unclip_jax.cascades.image_stages import image_stages, reads, space_of
from unclip_jax.cascades.priors import choose_prior
from unclip_jax.cascades.stage_settings import stage_settings
from unclip_jax.diffusion.settings import SamplingSettings
from unclip_jax.kinds import kind_of
from unclip_jax.kinds.kind import CLIP
from unclip_jax.sampling.transforms import DenoiserTransform, SamplerTransform, check_rows
from unclip_jax.stages.stage import Stage


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Plan:
    """Validated arguments of a call, and the stages that it runs.

    Attributes:
      cascade: The cascade.
      image_stages: Image stages in execution order.
      prior: Stage that samples image embeddings. If None, it is not needed.
      settings: Sampling settings of every stage that runs.
      seed: Seed in [0, 2**32) for all images, or one seed per image.
      image_ids: Index of each of the N images, in [0, 2**31).
      count: Number of images per prompt, label or image.
      prompts: N / `count` captions, or empty.
      empty_caption: Whether the image stages receive the empty caption instead of `prompts`.
      image_embeddings: Unnormalized embeddings that replace those of the prior. If None, there are none.
      image: Image whose embedding replaces those of the prior. If None, there is none.
      labels: N / `count` class labels. If None, there are none.
      denoiser_transforms: Denoiser transforms by stage.
      sampler_transforms: Sampler transforms by stage.
    """

    cascade: Cascade
    image_stages: tuple[Stage, ...]
    prior: Stage | None
    settings: Mapping[str, SamplingSettings]
    seed: int | Sequence[int]
    image_ids: Int["N"]
    count: int
    prompts: Sequence[str] = ()
    empty_caption: bool = False
    image_embeddings: Float["N E"] | None = None
    image: UInt8["H W 3"] | None = None
    labels: Int["P"] | None = None
    denoiser_transforms: Mapping[str, Sequence[DenoiserTransform]] = dataclasses.field(default_factory=dict)
    sampler_transforms: Mapping[str, Sequence[SamplerTransform]] = dataclasses.field(default_factory=dict)

    @property
    def total(self) -> int:
        """Number of images, N."""
        return len(self.image_ids)

    @property
    def space(self) -> str | None:
        """Encoder whose image embeddings the image stages read, or None if they read no image embeddings."""
        return None if not self.image_stages else space_of(self.image_stages[0])

    @property
    def ranking_clip(self) -> str | None:
        """CLIP of the first image stage, which ranks candidates, or None if that stage has no CLIP."""
        ref = self.image_stages[0].spec.encoders.get(CLIP) if self.image_stages else None
        return None if ref is None else ref.stage

    @property
    def prior_space(self) -> str:
        """Encoder whose image embeddings the prior samples."""
        return self.prior.spec.encoders[CLIP].stage

    def caption_stages(self) -> list[Stage]:
        """Returns the stages that read captions, among the stages that run or guide and their encoders."""
        running = ([] if self.prior is None else [self.prior]) + list(self.image_stages)
        running += [guide for stage in running for guide in self.guides_of(stage)]
        names = dict.fromkeys(
            name for stage in running for name in (*(ref.stage for ref in stage.spec.encoders.values()), stage.name)
        )
        stages = [self.cascade.stages[name] for name in names]
        return [stage for stage in stages if kind_of(stage).encode_text is not None]

    def guides_of(self, stage: Stage) -> list[Stage]:
        """Returns the stages that guide a stage, in the order of its sampling settings."""
        return [self.cascade.stages[name] for name in self.settings[stage.name].guides]

    def stages_used_from(self, index: int, *, ranking: bool) -> list[Stage]:
        """Returns the stages that are still needed when an image stage starts.

        Args:
          index: Index of the image stage in `image_stages`.
          ranking: Whether encoders may still be needed to rank candidates.
        """
        left = list(self.image_stages[index:])
        guides = [guide for stage in left for guide in self.guides_of(stage)]
        return [*left, *guides, *(self.cascade.stages_producing("features") if ranking else ())]

    def ranks_after(self, stage: Stage) -> bool:
        """Returns whether candidates are ranked after a stage.

        This is the case if its images are at least as large as CLIP's input, or if it is the last stage.
        """
        clip = self.cascade.stages[self.ranking_clip]
        size = kind_of(clip).image_encoder_size(clip.module)
        return stage is self.image_stages[-1] or min(images.height_width(stage.module.image_size)) >= size


def make_plan(
    cascade: Cascade,
    *,
    inputs: int,
    count: int = 1,
    seed: int | Sequence[int] = 0,
    first_image: int = 0,
    stop_after: str | None = None,
    prior: str | None = None,
    prior_scale: float | None = None,
    decoder_scale: float | None = None,
    steps: Mapping[str, int | str] | None = None,
    sampler: Mapping[str, str] | None = None,
    candidates: int | None = None,
    sampling: Mapping[str, Mapping[str, Any]] | None = None,
    denoiser_transforms: Mapping[str, Sequence[DenoiserTransform]] | None = None,
    sampler_transforms: Mapping[str, Sequence[SamplerTransform]] | None = None,
    **content: Any,
) -> Plan:
    """Validates the arguments of a call and returns its plan.

    `inputs` is the number of prompts, labels or images, and `content` contains the fields of `Plan` that describe them.
    The other arguments are those of `text_to_image`.

    Raises:
      ValueError: If an argument is invalid or does not match the cascade.
    """
    cascade.check_not_deleted()
    seeds = check_request(inputs, count=count, seed=seed, first_image=first_image)
    chain = image_stages(cascade, stop_after) if cascade.stages_producing("image") or stop_after else []
    base = chain[0] if chain else None
    specs = {name: stage.spec for name, stage in cascade.stages.items()}
    chosen = cascade.stages.get(choose_prior(specs, prior, space=base and space_of(base)))
    for name, value in (("prior_scale", prior_scale), ("candidates", candidates)):
        if value is not None and chosen is None:
            raise ValueError(f"{name} must be None, because cascade {cascade.path!r} has no prior, got {value}.")
    arguments: dict[str, dict[str, Any]] = {}
    for stage, field, value in (
        (chosen, "guidance_scale", prior_scale),
        (chosen, "candidates", candidates),
        (base, "guidance_scale", decoder_scale),
    ):
        if stage is not None and value is not None:
            arguments.setdefault(stage.name, {})[field] = value
    settings = stage_settings(
        cascade, chosen, base, arguments=arguments, steps=steps or {}, sampler=sampler or {}, sampling=sampling or {}
    )
    needs_prior = base is None or (
        "image_embedding" in reads(base) and content.get("image_embeddings") is None and content.get("image") is None
    )
    running = ([chosen] if needs_prior and chosen else []) + chain
    guides = [cascade.stages[name] for stage in running for name in settings[stage.name].guides]
    _check_encoders(cascade, [*running, *guides])
    if needs_prior and chosen is None:
        raise cascade.lacks("a prior")
    transforms = {"denoiser_transforms": denoiser_transforms or {}, "sampler_transforms": sampler_transforms or {}}
    for name, by_stage in transforms.items():
        _check_transforms(by_stage, running, inputs * count, name)
    return Plan(
        cascade=cascade,
        image_stages=tuple(chain),
        prior=chosen if needs_prior else None,
        settings={stage.name: settings[stage.name] for stage in running},
        seed=seeds,
        image_ids=first_image + np.arange(inputs * count),
        count=count,
        **transforms,
        **content,
    )


def check_request(inputs: int, *, count: int, seed: int | Sequence[int], first_image: int) -> int | list[int]:
    """Checks the number, seed and index of images, and returns the seed or a list of one seed per image.

    Args:
      inputs: Number of prompts, labels or images.
      count: Number of images per input.
      seed: Seed in [0, 2**32), or one seed per input.
      first_image: Index of the first image. All indices must be in [0, 2**31).

    Raises:
      ValueError: If `count`, `seed` or `first_image` is not an integer or is out of range, or if the number of seeds is
        not the number of inputs.
    """
    if _index(count, "count") < 1:
        raise ValueError(f"count must be at least 1, got {count!r}.")
    seeds = [seed] if np.ndim(seed) == 0 else list(seed)
    for one in seeds:
        if not 0 <= _index(one, "seed") < 2**32:
            raise ValueError(f"seed must be from 0 to {2**32 - 1}, got {one!r}.")
    largest = 2**31 - inputs * count
    if not 0 <= _index(first_image, "first_image") <= largest:
        raise ValueError(f"first_image must be from 0 to {largest}, got {first_image}.")
    if np.ndim(seed) == 0:
        return int(seed)
    if len(seeds) != inputs:
        raise ValueError(f"seed must be one integer or one for each of the {inputs} inputs, got {len(seeds)}.")
    return [int(one) for one in seeds for _ in range(count)]


def _index(value: Any, name: str) -> int:
    """Converts an integer, NumPy integer or zero-dimensional integer array to int."""
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError as error:
        raise ValueError(f"{name} must be an integer, got {value!r}.") from error


def _check_encoders(cascade: Cascade, running: Sequence[Stage]) -> None:
    for stage in running:
        for ref in stage.spec.encoders.values():
            cascade.stage(ref.stage, reader=stage.name)


def _check_transforms(by_stage: Mapping[str, Sequence[Any]], running: Sequence[Stage], total: int, what: str) -> None:
    known = [stage.name for stage in running]
    unknown = [name for name in by_stage if name not in known]
    if unknown:
        raise ValueError(f"{what} must name stages that run, got {', '.join(unknown)}. Available: {', '.join(known)}.")
    for name, transforms in by_stage.items():
        check_rows(transforms, total, f"{what} of {name}")
