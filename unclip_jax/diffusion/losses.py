"""Training losses, one number a row; the mean over rows is the caller's.

    L_simple = mean over a row's numbers of (prediction - target)^2                              DDPM's Eq. 14
    L_hybrid = L_simple + 0.001 T L_vb(t)                                                        Improved DDPM's Eq. 16
    L_vb(t)  = KL( q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t) ) at t > 0, -log p(x_0 | x_1) at t = 0

L_vb is in bits a dimension. It trains the variance alone: the mean inside it passes no gradient on.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr

from unclip_jax.arrays import Float, Int
from unclip_jax.diffusion import variance
from unclip_jax.diffusion.denoiser import split_output
from unclip_jax.diffusion.prediction import eps_to_x0
from unclip_jax.diffusion.process import posterior
from unclip_jax.diffusion.schedule import Schedule

VB_WEIGHT = 0.001
HALF_BIN = 1.0 / 255.0  # half the distance of two of the 256 levels in [-1, 1]
_FAR = 100.0  # standard deviations at which a float32 distribution function is 0 or 1


def simple(prediction: Float["B ..."], target: Float["B ..."]) -> Float["B"]:
    """Mean squared error of each row, in float32. The target is eps or x0, whatever the network predicts."""
    return _row_mean(jnp.square(prediction.astype(jnp.float32) - target.astype(jnp.float32)))


def hybrid(
    schedule: Schedule,
    output: Float["B ... 2C"],
    *,
    x0: Float["B ... C"],
    x_t: Float["B ... C"],
    t: Int["B"],
    noise: Float["B ... C"],
) -> Float["B"]:
    """L_hybrid of a network that predicts eps and, in the second half of its channels, Improved DDPM's v.

    Args:
      output: the network's raw answer at (x_t, t).
      x0: pixels in [-1, 1], levels of 8 bits.
      noise: the noise in x_t.
    """
    eps, fraction = split_output(output, x0.shape[-1])
    if fraction is None:
        raise ValueError(f"the network answers {output.shape[-1]} channels: L_hybrid needs {2 * x0.shape[-1]}.")
    x0_mean = eps_to_x0(schedule, jax.lax.stop_gradient(eps), x_t, t)
    mean, _ = posterior(schedule, x0_mean, x_t, t, t - 1)
    log_variance = variance.learned_range(schedule, fraction, t, t - 1)
    bound = variational_bound(schedule, mean, log_variance, x0=x0, x_t=x_t, t=t)
    return simple(eps, noise) + VB_WEIGHT * schedule.num_steps * bound


def variational_bound(
    schedule: Schedule,
    mean: Float["B ..."],
    log_variance: Float["B ..."],
    *,
    x0: Float["B ..."],
    x_t: Float["B ..."],
    t: Int["B"],
) -> Float["B"]:
    """L_vb(t) above for p = N(mean, exp(log_variance)), in bits a dimension."""
    true_mean, true_log_variance = posterior(schedule, x0, x_t, t, t - 1)
    kl = gaussian_kl(true_mean, true_log_variance, mean, log_variance)
    nll = -discretised_log_likelihood(x0, mean, log_variance)
    return jnp.where(t == 0, _row_mean(nll), _row_mean(kl)) / np.log(2.0)


def gaussian_kl(
    mean_q: Float["B ..."], log_variance_q: Float["B ..."], mean_p: Float["B ..."], log_variance_p: Float["B ..."]
) -> Float["B ..."]:
    """KL(q || p) of two Gaussians in one dimension, in nats, elementwise."""
    ratio = log_variance_q - log_variance_p
    return 0.5 * (jnp.exp(ratio) - 1.0 - ratio + jnp.square(mean_q - mean_p) * jnp.exp(-log_variance_p))


def discretised_log_likelihood(
    x0: Float["B ..."], mean: Float["B ..."], log_variance: Float["B ..."]
) -> Float["B ..."]:
    """log of the mass that N(mean, exp(log_variance)) has in x0's bin of 8 bits, DDPM's Eq. 13, in nats, elementwise.

    The outermost bins are open. Never below log(1e-12), as in DDPM's code.
    """
    scale = jnp.exp(-0.5 * log_variance)
    upper = jnp.where(x0 > 0.999, _FAR, (x0 + HALF_BIN - mean) * scale)
    lower = jnp.where(x0 < -0.999, -_FAR, (x0 - HALF_BIN - mean) * scale)
    # mirrored so that the bin lies left of the mean: on its right a difference of two numbers near 1 has no digits
    right = x0 > mean
    mass = ndtr(jnp.where(right, -lower, upper)) - ndtr(jnp.where(right, -upper, lower))
    return jnp.log(jnp.maximum(mass, 1e-12))


def _row_mean(x: Float["B ..."]) -> Float["B"]:
    return jnp.mean(x, axis=tuple(range(1, x.ndim)))
