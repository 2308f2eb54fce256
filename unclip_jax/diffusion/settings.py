"""Settings for sampling a stage by diffusion."""

import dataclasses
import numbers
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

from unclip_jax.diffusion.samplers.table import SAMPLERS
from unclip_jax.diffusion.timesteps import named_path
from unclip_jax.diffusion.variance import VARIANCES

DEFAULT_STEPS = 250
LARGEST = float(np.finfo(np.float32).max)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """Sampling settings of a stage.

    Attributes:
      sampler: One of `samplers.SAMPLERS`: "ddpm" (ancestral), "ddim" or "dpm" (DPM-Solver++(2M)).
      steps: Number of steps, from 1 to the steps of the schedule, or the name of a path (see `timesteps.named_path`).
        If None, 250, or all steps of a shorter schedule.
      guidance_scale: Scale of classifier-free guidance. 1 disables it and skips the unconditional half of the batch.
      guidance_interval: First and last training step with guidance. If None, all steps are guided.
      guidance_rescale: Fraction in [0, 1] by which the guided x0 is rescaled to the standard deviation of the
        conditional x0. 0 disables it.
      guides: Gradient scale by name of the guide stage. Guide stages that are not listed are not used.
      eta: Stochasticity of DDIM, in [0, 1]. 0 is deterministic.
      variance: Reverse variance of ancestral sampling, one of `variance.VARIANCES`. If None, that of the stage's
        `DiffusionSpec`.
      threshold: Percentile of dynamic thresholding, in (0, 100]. If None, x0 is clipped to `DiffusionSpec.clip_x0`.
      threshold_cap: Largest threshold of dynamic thresholding, at least 1.
      temperature: Standard deviation of the initial noise. GLIDE's upsampler uses 0.997.
      candidates: Number of samples per output. The one with the highest CLIP similarity is kept. 1 disables reranking.
    """

    sampler: str = "ddpm"
    steps: int | str | None = None
    guidance_scale: float = 1.0
    guidance_interval: tuple[int, int] | None = None
    guidance_rescale: float = 0.0
    guides: Mapping[str, float] = dataclasses.field(default_factory=dict, hash=False)
    eta: float = 0.0
    variance: str | None = None
    threshold: float | None = None
    threshold_cap: float = 1e6
    temperature: float = 1.0
    candidates: int = 1

    def resolved(self, schedule_steps: int) -> "SamplingSettings":
        """Returns the settings with the default number of steps filled in."""
        if self.steps is not None:
            return self
        return dataclasses.replace(self, steps=min(DEFAULT_STEPS, schedule_steps))

    def chosen(self) -> dict[str, Any]:
        """Returns sampler, steps and all other fields that differ from their defaults."""
        default = SamplingSettings()
        names = [field.name for field in dataclasses.fields(self)]
        return {
            name: getattr(self, name)
            for name in names
            if name in ("sampler", "steps") or getattr(self, name) != getattr(default, name)
        }

    def check(self, stage: str, schedule_steps: int) -> "SamplingSettings":
        """Validates the settings and returns them.

        Args:
          stage: Name of the stage, for the error message.
          schedule_steps: Number of steps of its noise schedule.

        Raises:
          ValueError: If a field has the wrong type or is out of range.
        """

        def refuse(name: str, allowed: str) -> NoReturn:
            value = " ".join(repr(getattr(self, name)).split())  # on one line, also for arrays
            raise ValueError(f"{name} of {stage} must be {allowed}, got {value}.")

        for name in ("guidance_scale", "guidance_rescale", "eta", "threshold_cap", "temperature"):
            if not _is_number(getattr(self, name)):
                refuse(name, "a number")
        if self.sampler not in SAMPLERS:
            refuse("sampler", f"one of {SAMPLERS.available()}")
        steps = self.resolved(schedule_steps).steps
        if not _is_integer(steps) and not isinstance(steps, str):
            refuse("steps", "an integer or the name of a path")
        if _is_integer(steps) and not 1 <= steps <= schedule_steps:
            refuse("steps", f"between 1 and {schedule_steps}")
        try:
            named_path(steps, schedule_steps)
        except ValueError as error:
            raise ValueError(f"steps of {stage}: {error}") from error
        if not _is_finite(self.guidance_scale):
            refuse("guidance_scale", "a finite number")
        if self.guidance_interval is not None and not _is_interval(self.guidance_interval, schedule_steps):
            refuse("guidance_interval", f"two steps between 0 and {schedule_steps - 1}, in ascending order")
        if not _are_scales(self.guides):
            refuse("guides", "a mapping from names of guide stages to finite numbers")
        for name in ("eta", "guidance_rescale"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                refuse(name, "in [0, 1]")
        if self.variance is not None and not (isinstance(self.variance, str) and self.variance in VARIANCES):
            refuse("variance", f"one of {', '.join(VARIANCES)}")
        if self.threshold is not None and not (_is_number(self.threshold) and 0.0 < self.threshold <= 100.0):
            refuse("threshold", "a percentile in (0, 100]")
        if not 1.0 <= self.threshold_cap <= LARGEST:
            refuse("threshold_cap", "finite and at least 1")
        if not 0.0 < self.temperature <= LARGEST:
            refuse("temperature", "positive and finite")
        if not _is_integer(self.candidates):
            refuse("candidates", "an integer")
        if self.candidates < 1:
            refuse("candidates", "at least 1")
        return self


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    return _is_number(value) and abs(value) <= LARGEST


def _is_integer(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _is_interval(value: Any, schedule_steps: int) -> bool:
    return (
        isinstance(value, tuple | list)
        and len(value) == 2
        and all(_is_integer(step) for step in value)
        and 0 <= value[0] <= value[1] < schedule_steps
    )


def _are_scales(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(stage, str) and _is_finite(scale) for stage, scale in value.items()
    )
