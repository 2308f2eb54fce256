"""Noise schedules.

    q(x_t | x_0) = N( sqrt(alpha_bar_t) x_0, (1 - alpha_bar_t) I ),   alpha_bar_t = prod_{s <= t} (1 - beta_s)      (1)

A schedule stores only log alpha_bar. All other quantities are computed from it, for any pair of steps:

    1 - alpha_bar_t = -expm1(log alpha_bar_t)                                                                     (2)
    beta(t, t_next) = 1 - alpha_bar_t / alpha_bar_next = -expm1(log alpha_bar_t - log alpha_bar_next)             (3)

A float32 alpha_bar close to 1 would lose four digits of 1 - alpha_bar. Respacing a schedule to fewer steps only
requires a path of steps (see `timesteps`). Schedules are pytrees and can be passed to jitted functions.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from flax import struct

from unclip_jax.arrays import Float, Int
from unclip_jax.errors import choose

MAX_BETA = 0.999
MIN_STEPS = {"cosine": 2, "linear": 21}


@struct.dataclass
class Schedule:
    """Noise schedule of T training steps.

    Steps are integers from -1 (clean) to T-1, a scalar or one per row. The result of every method has the shape of its
    steps.

    Attributes:
      log_alpha_bar: log alpha_bar of the steps 0 to T-1.
    """

    log_alpha_bar: Float["T"]

    @property
    def num_steps(self) -> int:
        """Number of training steps T."""
        return self.log_alpha_bar.shape[0]

    def log_signal(self, t: Int["B"]) -> Float["B"]:
        """Returns log alpha_bar_t, which is 0 at t = -1."""
        t = jnp.asarray(t)
        return jnp.where(t < 0, 0.0, self.log_alpha_bar[jnp.maximum(t, 0)])

    def alpha_bar(self, t: Int["B"]) -> Float["B"]:
        """Returns alpha_bar_t, the variance of the signal in x_t."""
        return jnp.exp(self.log_signal(t))

    def one_minus_alpha_bar(self, t: Int["B"]) -> Float["B"]:
        """Returns 1 - alpha_bar_t, the variance of the noise in x_t (Eq. 2)."""
        return -jnp.expm1(self.log_signal(t))

    def signal_scale(self, t: Int["B"]) -> Float["B"]:
        """Returns sqrt(alpha_bar_t), the factor of x_0 in x_t."""
        return jnp.exp(0.5 * self.log_signal(t))

    def noise_scale(self, t: Int["B"]) -> Float["B"]:
        """Returns sqrt(1 - alpha_bar_t), the standard deviation of the noise in x_t."""
        return jnp.sqrt(self.one_minus_alpha_bar(t))

    def log_snr(self, t: Int["B"]) -> Float["B"]:
        """Returns the log SNR, log(alpha_bar_t / (1 - alpha_bar_t)), which is infinite at t = -1."""
        return self.log_signal(t) - jnp.log(self.one_minus_alpha_bar(t))

    def log_alpha(self, t: Int["B"], t_next: Int["B"]) -> Float["B"]:
        """Returns log(alpha_bar_t / alpha_bar_next), which is negative if t_next is the cleaner step."""
        return self.log_signal(t) - self.log_signal(t_next)

    def beta(self, t: Int["B"], t_next: Int["B"]) -> Float["B"]:
        """Returns the variance of the noise added from t_next to the noisier step t (Eq. 3)."""
        return -jnp.expm1(self.log_alpha(t, t_next))


def cosine(num_steps: int) -> Schedule:
    """Computes the cosine schedule of Improved DDPM (Nichol and Dhariwal 2021, arXiv 2102.09672, Eq. 17).

    alpha_bar(u) is proportional to cos^2((u + 0.008) / 1.008 * pi / 2), and betas are clipped to 0.999. As in OpenAI's
    code, betas are computed from ratios of adjacent values, so the curve need not be divided by its value at 0.

    Args:
      num_steps: Number of training steps, at least 2.

    Raises:
      ValueError: If `num_steps` is less than 2.
    """
    if num_steps < MIN_STEPS["cosine"]:
        raise ValueError(f"num_steps must be at least 2 for the cosine schedule, got {num_steps}.")
    u = np.arange(num_steps + 1, dtype=np.float64) / num_steps
    curve = np.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2
    return _from_betas(np.minimum(1.0 - curve[1:] / curve[:-1], MAX_BETA))


def linear(num_steps: int) -> Schedule:
    """Computes the linear schedule of DDPM (Ho et al. 2020, arXiv 2006.11239).

    Betas range from 1e-4 to 0.02 for 1000 steps. For other numbers of steps they are scaled by 1000 / num_steps, as in
    the code of Improved DDPM.

    Args:
      num_steps: Number of training steps, at least 21. With fewer, the last beta would reach 1.

    Raises:
      ValueError: If `num_steps` is less than 21.
    """
    if num_steps < MIN_STEPS["linear"]:
        raise ValueError(f"num_steps must be at least 21 for the linear schedule, got {num_steps}.")
    scale = 1000.0 / num_steps
    return _from_betas(np.linspace(1e-4 * scale, 0.02 * scale, num_steps, dtype=np.float64))


SCHEDULES: dict[str, Callable[[int], Schedule]] = {"cosine": cosine, "linear": linear}


def by_name(name: str, num_steps: int = 1000) -> Schedule:
    """Computes the schedule with the given name.

    Args:
      name: One of `SCHEDULES`.
      num_steps: Number of training steps.

    Raises:
      ValueError: If the name is unknown or `num_steps` is too small.
    """
    return choose(SCHEDULES, name, "noise schedule")(num_steps)


def per_row(coefficient: Float["B"], x: Float["B ..."]) -> Float["B ..."]:
    """Adds trailing axes of length 1 to a scalar or per-row coefficient so that it broadcasts against x."""
    coefficient = jnp.asarray(coefficient)
    return coefficient.reshape(coefficient.shape + (1,) * (x.ndim - coefficient.ndim))


def _from_betas(betas: np.ndarray) -> Schedule:
    # Accumulate in float64. A float32 product of 1000 factors is wrong in the fifth digit.
    return Schedule(jnp.asarray(np.cumsum(np.log1p(-betas)), jnp.float32))
