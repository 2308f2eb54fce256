"""Transforms of denoisers and samplers, as formulas."""

import jax
import jax.numpy as jnp
from flax import struct

from unclip_jax.diffusion.prediction import x0_to_eps


def with_x0(denoiser, schedule, change):
    """Replaces x0, and eps with it."""

    def changed(x_t, t):
        prediction = denoiser(x_t, t)
        x0 = change(prediction.x0)
        return prediction.replace(x0=x0, eps=x0_to_eps(schedule, x0, x_t, t))

    return changed


def add(denoiser, schedule, rows, shared):
    return with_x0(denoiser, schedule, lambda x0: x0 + (rows * shared)[:, None])


def double(denoiser, schedule, rows, shared):
    return with_x0(denoiser, schedule, lambda x0: 2.0 * x0)


def paint(denoiser, schedule, rows, shared):
    """All of x0 in the row's color."""
    return with_x0(denoiser, schedule, lambda x0: jnp.broadcast_to(rows[:, None, None], x0.shape))


@struct.dataclass
class Nudged:
    """A sampler after each of whose steps `by` is added to x."""

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
    """`rows` are colors."""
    return Nudged(sampler, (rows + shared)[:, None, None])
