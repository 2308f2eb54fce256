"""Specification of the diffusion process that a stage is trained with."""

import dataclasses
import math
from typing import Any

from unclip_jax.diffusion import schedule as schedules
from unclip_jax.diffusion.prediction import PREDICTS
from unclip_jax.diffusion.variance import VARIANCES


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiffusionSpec:
    """Noise schedule of a stage and parameterization of its network.

    Attributes:
      schedule: Name of the noise schedule, one of `schedule.SCHEDULES`.
      steps: Number of training steps T, at least 2 for the cosine and 21 for the linear schedule.
      predicts: Parameterization of the network, one of `prediction.PREDICTS`.
      variance: Reverse variance of ancestral sampling, one of `variance.VARIANCES`.
      clip_x0: Limit to which |x0| is clipped at every sampling step. If None, x0 is not clipped.

    Raises:
      ValueError: If a field is unknown or out of range.
    """

    schedule: str = "cosine"
    steps: int = 1000
    predicts: str = "eps"
    variance: str = "fixed_small"
    clip_x0: float | None = 1.0

    def __post_init__(self):
        for field, names in (("schedule", schedules.SCHEDULES), ("predicts", PREDICTS), ("variance", VARIANCES)):
            value = getattr(self, field)
            if not isinstance(value, str) or value not in names:
                raise ValueError(f"{field} must be one of {', '.join(names)}, got {value!r}.")
        least = schedules.MIN_STEPS[self.schedule]
        if not isinstance(self.steps, int) or self.steps < least:
            allowed = f"an integer of at least {least} for the {self.schedule} schedule"
            raise ValueError(f"steps must be {allowed}, got {self.steps!r}.")
        if self.clip_x0 is not None and not _is_positive(self.clip_x0):
            raise ValueError(f"clip_x0 must be a positive, finite number or None, got {self.clip_x0!r}.")

    def noise_schedule(self) -> schedules.Schedule:
        """Computes the noise schedule."""
        return schedules.by_name(self.schedule, self.steps)


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0.0 < value < math.inf
