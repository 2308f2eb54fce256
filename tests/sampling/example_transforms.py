"""Simple transforms of denoisers and samplers."""

import jax
import jax.numpy as jnp
from flax import struct

from unclip_jax.diffusion.prediction import x0_to_eps


def with_x0(denoiser, schedule, change):
    """Changes x0, and eps accordingly."""

    def changed(x_t, t):
        prediction = denoiser(x_t, t)
        x0 = change(prediction.x0)
        return prediction.replace(x0=x0, eps=x0_to_eps(schedule, x0, x_t, t))

    return changed


def add(denoiser, schedule, rows, shared):
    return with_x0(denoiser, schedule, lambda x0: x0 + (rows * shared)[:, None])


def double(denoiser, schedule, rows, shared):
    return with_x0(denoiser, schedule, lambda x0: 2.0 * x0)


def fill(denoiser, schedule, rows, shared):
    """Sets every pixel of x0 to the color of its row."""
    return with_x0(denoiser, schedule, lambda x0: jnp.broadcast_to(rows[:, None, None], x0.shape))


@struct.dataclass
class Nudged:
    """Sampler that adds `by` to x after each step."""

    inner: object
    by: jax.Array

    def init(self, x):
        return self.inner.init(x)

    def step(self, denoiser, state, t, t_next, noise):
        state = self.inner.step(denoiser, state, t, t_next, noise)
        return state.replace(x=state.x + self.by)


def nudge(sampler, schedule, rows, shared):
    return Nudged(sampler, (rows + shared)[:, None])


def nudge_images(sampler, schedule, rows, shared):
    """Like `nudge`, for images; `rows` are colors."""
    return Nudged(sampler, (rows + shared)[:, None, None])
