"""Noise schedules: how much of the picture is left at each step.

    q(x_t | x_0) = N( sqrt(alpha_bar_t) x_0, (1 - alpha_bar_t) I ),   alpha_bar_t = prod_{s <= t} (1 - beta_s)      (1)

A schedule holds log alpha_bar and nothing else. Everything is formed from it where it is needed, for any pair of steps,

    1 - alpha_bar_t = -expm1(log alpha_bar_t)                                                                     (2)
    beta(t, t_next) = 1 - alpha_bar_t / alpha_bar_next = -expm1(log alpha_bar_t - log alpha_bar_next)             (3)

because a float32 alpha_bar that is nearly 1 has lost four digits of 1 - alpha_bar. A schedule respaced to fewer steps
is therefore nothing but a path of steps. Schedules are pytrees: they go through jit as arguments.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from flax import struct

from unclip_jax.arrays import Float, Int

MAX_BETA = 0.999
MIN_STEPS = {"cosine": 2, "linear": 21}


@struct.dataclass
class Schedule:
    """log alpha_bar of the T training steps.

    In every method a step t is an int, a scalar or "B", from -1 to T-1, and -1 is clean; the answer has t's shape.
    """

    log_alpha_bar: Float["T"]

    @property
    def num_steps(self) -> int:
        return self.log_alpha_bar.shape[0]

    def log_signal(self, t: Int["B"]) -> Float["B"]:
        """log alpha_bar_t; 0 at t = -1."""
        t = jnp.asarray(t)
        return jnp.where(t < 0, 0.0, self.log_alpha_bar[jnp.maximum(t, 0)])

    def alpha_bar(self, t: Int["B"]) -> Float["B"]:
        """Variance of the signal in x_t."""
        return jnp.exp(self.log_signal(t))

    def one_minus_alpha_bar(self, t: Int["B"]) -> Float["B"]:
        """Variance of the noise in x_t, Eq. 2."""
        return -jnp.expm1(self.log_signal(t))

    def signal_scale(self, t: Int["B"]) -> Float["B"]:
        """sqrt(alpha_bar_t)."""
        return jnp.exp(0.5 * self.log_signal(t))

    def noise_scale(self, t: Int["B"]) -> Float["B"]:
        """sqrt(1 - alpha_bar_t)."""
        return jnp.sqrt(self.one_minus_alpha_bar(t))

    def log_snr(self, t: Int["B"]) -> Float["B"]:
        """log (alpha_bar_t / (1 - alpha_bar_t)), the signal-to-noise ratio; infinite at t = -1."""
        return self.log_signal(t) - jnp.log(self.one_minus_alpha_bar(t))

    def log_alpha(self, t: Int["B"], t_next: Int["B"]) -> Float["B"]:
        """log (alpha_bar_t / alpha_bar_next); negative where t_next is the cleaner step."""
        return self.log_signal(t) - self.log_signal(t_next)

    def beta(self, t: Int["B"], t_next: Int["B"]) -> Float["B"]:
        """Variance added in going from t_next to the noisier t, Eq. 3."""
        return -jnp.expm1(self.log_alpha(t, t_next))


def cosine(num_steps: int) -> Schedule:
    """Improved DDPM's (arXiv 2102.09672) Eq. 17: alpha_bar(u) ~ cos^2((u + 0.008) / 1.008 * pi / 2), betas up to 0.999.

    Betas are ratios of neighbours, as in OpenAI's code, so that the curve is not divided by its value at 0.
    """
    if num_steps < MIN_STEPS["cosine"]:
        raise ValueError(f"num_steps is {num_steps}: a cosine schedule needs at least 2.")
    u = np.arange(num_steps + 1, dtype=np.float64) / num_steps
    curve = np.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2
    return _from_betas(np.minimum(1.0 - curve[1:] / curve[:-1], MAX_BETA))


def linear(num_steps: int) -> Schedule:
    """DDPM's: betas from 1e-4 to 0.02 at 1000 steps, scaled by 1000 / num_steps for others (Improved DDPM's code)."""
    if num_steps < MIN_STEPS["linear"]:
        raise ValueError(f"num_steps is {num_steps}: a linear schedule needs more than 20, or its last beta reaches 1.")
    scale = 1000.0 / num_steps
    return _from_betas(np.linspace(1e-4 * scale, 0.02 * scale, num_steps, dtype=np.float64))


SCHEDULES: dict[str, Callable[[int], Schedule]] = {"cosine": cosine, "linear": linear}


def by_name(name: str, num_steps: int = 1000) -> Schedule:
    """The schedule that a config names. Raises ValueError, with the known names, for another."""
    if name not in SCHEDULES:
        raise ValueError(f"schedule is {name!r}: the known ones are {', '.join(sorted(SCHEDULES))}.")
    return SCHEDULES[name](num_steps)


def per_row(coefficient: Float["B"], x: Float["B ..."]) -> Float["B ..."]:
    """A scalar or one number a row, with axes of length 1 added so that it multiplies x."""
    coefficient = jnp.asarray(coefficient)
    return coefficient.reshape(coefficient.shape + (1,) * (x.ndim - coefficient.ndim))


def _from_betas(betas: np.ndarray) -> Schedule:
    # float64 up to here: a float32 product of a thousand factors is wrong in the fifth digit
    return Schedule(jnp.asarray(np.cumsum(np.log1p(-betas)), jnp.float32))
