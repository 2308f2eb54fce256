"""A sampler of another package: DDIM whose every step ends half way between its own x and the predicted x0."""

import jax
from flax import struct

from unclip_jax.diffusion.samplers.ddim import DDIM
from unclip_jax.diffusion.samplers.sampler import SamplerState
from unclip_jax.diffusion.schedule import Schedule


@struct.dataclass
class HalfWay:
    schedule: Schedule

    def init(self, x: jax.Array) -> SamplerState:
        return DDIM(self.schedule).init(x)

    def step(self, denoiser, state, t, t_next, noise) -> SamplerState:
        state = DDIM(self.schedule).step(denoiser, state, t, t_next, noise)
        return state.replace(x=(state.x + state.x0) / 2)


def half_way(schedule: Schedule, options) -> HalfWay:
    return HalfWay(schedule)
