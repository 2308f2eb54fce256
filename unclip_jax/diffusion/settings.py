"""Settings for sampling a stage by diffusion, and their checks."""

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
    """How to sample a stage.

    Attributes:
      sampler: One of `samplers.SAMPLERS`: "ddpm" (ancestral), "ddim" or "dpm" (DPM-Solver++(2M)).
      steps: Number of steps, from 1 to the steps of the schedule, or the name of a path (see `timesteps.named_path`).
        If None, 250, or all steps of a shorter schedule.
      guidance_scale: Scale of classifier-free guidance. 1 disables it, and then no unconditional half is computed.
      guidance_interval: First and last step of the schedule with guidance. If None, all steps are guided.
      guidance_rescale: In [0, 1]; how far the guided x0 is rescaled to its unguided standard deviation. 0 disables it.
      guides: Gradient scale by name of the guide stage. Stages that are not named do not guide.
      eta: Of DDIM, in [0, 1].
      variance: Of ancestral sampling, one of `variance.VARIANCES`. If None, that of the stage's `DiffusionSpec`.
      threshold: Percentile of dynamic thresholding, in (0, 100]. If None, x0 is clipped to the limit of the stage.
      threshold_cap: Largest threshold of dynamic thresholding, at least 1.
      temperature: Standard deviation of the initial noise; 0.997 in GLIDE's upsampler.
      candidates: Number of samples per output, of which CLIP keeps the best.
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
        """Returns sampler, steps, and the other fields that differ from their defaults."""
        default = SamplingSettings()
        names = [field.name for field in dataclasses.fields(self)]
        return {
            name: getattr(self, name)
            for name in names
            if name in ("sampler", "steps") or getattr(self, name) != getattr(default, name)
        }

    def check(self, stage: str, schedule_steps: int) -> "SamplingSettings":
        """Returns the settings if they are valid.

        Args:
          stage: Name of the stage, for the error message.
          schedule_steps: Number of steps of its noise schedule.

        Raises:
          ValueError: If a field has the wrong type or is out of range. The message names the field.
        """

        def refuse(name: str, allowed: str) -> NoReturn:
            value = " ".join(repr(getattr(self, name)).split())  # of an array, several lines
            raise ValueError(f"{name} of {stage} is {value}; {allowed}")

        for name in ("guidance_scale", "guidance_rescale", "eta", "threshold_cap", "temperature"):
            if not _is_number(getattr(self, name)):
                refuse(name, "it must be a number")
        if self.sampler not in SAMPLERS:
            refuse("sampler", f"known: {SAMPLERS.available()}")
        steps = self.resolved(schedule_steps).steps
        if not _is_whole(steps) and not isinstance(steps, str):
            refuse("steps", "it must be a whole number or the name of a path")
        if _is_whole(steps) and not 1 <= steps <= schedule_steps:
            refuse("steps", f"it must be from 1 to {schedule_steps}, the schedule's")
        try:
            named_path(steps, schedule_steps)
        except ValueError as error:
            raise ValueError(f"steps of {stage}: {error}") from error
        if not _is_finite(self.guidance_scale):
            refuse("guidance_scale", "it must be a finite number")
        if self.guidance_interval is not None and not _is_interval(self.guidance_interval, schedule_steps):
            refuse("guidance_interval", f"it must be two steps, the smaller first, from 0 to {schedule_steps - 1}")
        if not _are_scales(self.guides):
            refuse("guides", "it must map names of guide stages to finite numbers")
        for name in ("eta", "guidance_rescale"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                refuse(name, "it must be from 0 to 1")
        if self.variance is not None and not (isinstance(self.variance, str) and self.variance in VARIANCES):
            refuse("variance", f"known: {', '.join(VARIANCES)}")
        if self.threshold is not None and not (_is_number(self.threshold) and 0.0 < self.threshold <= 100.0):
            refuse("threshold", "it must be a percentile above 0 and up to 100")
        if not 1.0 <= self.threshold_cap <= LARGEST:
            refuse("threshold_cap", "it must be a number from 1 upwards")
        if not 0.0 < self.temperature <= LARGEST:
            refuse("temperature", "it must be a number above 0")
        if not _is_whole(self.candidates):
            refuse("candidates", "it must be a whole number")
        if self.candidates < 1:
            refuse("candidates", "it must be 1 or more")
        return self


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    return _is_number(value) and abs(value) <= LARGEST


def _is_whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _is_interval(value: Any, schedule_steps: int) -> bool:
    return (
        isinstance(value, tuple | list)
        and len(value) == 2
        and all(_is_whole(step) for step in value)
        and 0 <= value[0] <= value[1] < schedule_steps
    )


def _are_scales(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(stage, str) and _is_finite(scale) for stage, scale in value.items()
    )
