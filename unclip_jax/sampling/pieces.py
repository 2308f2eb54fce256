"""Pieces of a path: segments of one length, each with the parameters and the sort of program that take its steps."""

import dataclasses

import numpy as np

from unclip_jax.arrays import Int, PyTree
from unclip_jax.diffusion.guidance import ALWAYS
from unclip_jax.diffusion.timesteps import segments
from unclip_jax.stages.stage import Stage

SEGMENT = 8  # steps per call of a compiled program


@dataclasses.dataclass(frozen=True, eq=False)
class Piece:
    """SEGMENT steps of a path, the last of which may do nothing.

    Attributes:
      params: The parameters that take the steps.
      path: The steps, see `timesteps`.
      guided: Whether there is classifier-free guidance.
    """

    params: PyTree
    path: Int["N+1"]
    guided: bool

    @property
    def num_steps(self) -> int:
        """The number of steps that are really taken."""
        return int(np.sum(self.path[:-1] != self.path[1:]))


def cut(
    stage: Stage, path: Int["N+1"], interval: tuple[int, int] | None, *, guided: bool, inverted: bool
) -> list[Piece]:
    """Cuts a path where the parameters or the guidance change, and then into segments.

    Args:
      interval: First and last step of the schedule with guidance. If None, all steps have it.
      guided: Whether there is guidance at all.
      inverted: Whether the path ascends.
    """
    is_last = np.zeros(len(path) - 1, bool)
    if stage.last_step_params is not None:
        is_last[0 if inverted else -1] = True  # the step at the least noise
    first, last = interval or ALWAYS
    is_guided = guided & (path[:-1] >= first) & (path[:-1] <= last)
    changes = (is_last[1:] != is_last[:-1]) | (is_guided[1:] != is_guided[:-1])
    bounds = [0, *(np.flatnonzero(changes) + 1), len(path) - 1]
    return [
        Piece(stage.last_step_params if is_last[start] else stage.params, segment, bool(is_guided[start]))
        for start, end in zip(bounds, bounds[1:])
        for segment in segments(path[start : end + 1], SEGMENT)
    ]
