"""Splitting of a path of timesteps into segments, each of which is one call of a compiled function."""

import dataclasses
import itertools

import numpy as np

from unclip_jax.arrays import Int, PyTree
from unclip_jax.diffusion.guidance import ALWAYS
from unclip_jax.diffusion.timesteps import segments
from unclip_jax.stages.stage import Stage

SEGMENT = 8  # steps per call of a compiled function


@dataclasses.dataclass(frozen=True, eq=False)
class Piece:
    """Segment of SEGMENT steps, of which the last ones may be padding without effect.

    Attributes:
      params: Parameters of the network for these steps.
      path: Path of the segment, see `diffusion.timesteps`.
      guided: Whether classifier-free guidance is used.
    """

    params: PyTree
    path: Int["N+1"]
    guided: bool

    @property
    def num_steps(self) -> int:
        """Number of steps without padding."""
        return int(np.sum(self.path[:-1] != self.path[1:]))


def cut(
    stage: Stage, path: Int["N+1"], interval: tuple[int, int] | None, *, guided: bool, inverted: bool
) -> list[Piece]:
    """Splits a path where the parameters or the use of guidance change, and then into segments.

    Args:
      stage: The stage to sample.
      path: Path of timesteps, see `diffusion.timesteps`.
      interval: First and last timestep with guidance, both inclusive. If None, all timesteps have guidance.
      guided: Whether guidance is used at all.
      inverted: Whether the path ascends (DDIM inversion).
    """
    is_last = np.zeros(len(path) - 1, bool)
    if stage.last_step_params is not None:
        is_last[0 if inverted else -1] = True  # the step with the least noise
    first, last = interval or ALWAYS
    is_guided = guided & (path[:-1] >= first) & (path[:-1] <= last)
    changes = (is_last[1:] != is_last[:-1]) | (is_guided[1:] != is_guided[:-1])
    bounds = [0, *(np.flatnonzero(changes) + 1), len(path) - 1]
    return [
        Piece(stage.last_step_params if is_last[start] else stage.params, segment, bool(is_guided[start]))
        for start, end in itertools.pairwise(bounds)
        for segment in segments(path[start : end + 1], SEGMENT)
    ]
