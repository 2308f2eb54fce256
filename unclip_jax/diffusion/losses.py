"""Training losses, one number a row; the mean over rows is the caller's.

    L_simple = mean over a row's numbers of (prediction - target)^2                              DDPM's Eq. 14
    L_hybrid = L_simple + 0.001 T L_vb(t)                                                        Improved DDPM's Eq. 16
    L_vb(t)  = KL( q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t) ) at t > 0, -log p(x_0 | x_1) at t = 0

L_vb is in bits a dimension. In L_hybrid it trains the variance alone: the mean inside it passes no gradient on.

L_hybrid clips the variance fraction to `FRACTION_RANGE`, because exp(-log variance) of an unbounded fraction overflows.
The clipped value passes no gradient on, since the slope of L_vb at a limit may point outward. Instead, a term whose
value is 0 has the gradient of the distance to the range: one bit per dimension and unit of fraction, always inward.
Sampling does not clip the fraction, as in Improved DDPM.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr

from unclip_jax import rng
from unclip_jax.arrays import Float, Int, Key
from unclip_jax.diffusion import variance as variances
from unclip_jax.diffusion.denoiser import Denoiser, split_output
from unclip_jax.diffusion.forward_process import posterior, q_sample
from unclip_jax.diffusion.prediction import from_output, target
from unclip_jax.diffusion.schedule import Schedule, per_row

VB_WEIGHT = 0.001
FRACTION_RANGE = (-1.0, 2.0)  # [0, 1] spans the two bounds; v in [-3, 3]
HALF_BIN = 1.0 / 255.0  # half the distance of two of the 256 levels in [-1, 1]
_FAR = 100.0  # standard deviations at which a float32 distribution function is 0 or 1


def simple(prediction: Float["B ..."], target: Float["B ..."]) -> Float["B"]:
    """Mean squared error of each row, in float32. The target is what the network predicts."""
    return _row_mean(jnp.square(prediction.astype(jnp.float32) - target.astype(jnp.float32)))


def weighted_simple(
    schedule: Schedule,
    answer: Float["B ..."],
    *,
    x0: Float["B ..."],
    t: Int["B"],
    noise: Float["B ..."],
    predicts: str,
    snr_clip: tuple[float, float] | None,
) -> Float["B"]:
    """L_simple of a network's answer at step t, against the x0, eps or v that it `predicts`.

    Args: snr_clip: (low, high) of its weights, see `snr_weight`; None: all steps weigh 1.
    """
    error = simple(answer, target(schedule, predicts, x0=x0, noise=noise, t=t))
    return error if snr_clip is None else error * snr_weight(schedule, t, predicts=predicts, clip=snr_clip)


def snr_weight(schedule: Schedule, t: Int["B"], *, predicts: str, clip: tuple[float, float]) -> Float["B"]:
    """Weight of each row's L_simple by its SNR = alpha_bar_t / (1 - alpha_bar_t), with w = min(max(SNR, low), high):

        w where the network predicts x0, w / SNR for eps, w / (SNR + 1) for v

    All three weigh the error of x0 alike. (0, gamma) is Min-SNR (arXiv 2303.09556), (1, inf) the truncated SNR of
    progressive distillation (arXiv 2202.00512, section 4). Between the limits an error of x0 weighs as one of eps.
    """
    low, high = clip
    log_snr = schedule.log_snr(t)
    divisor = {"x0": 0.0, "eps": log_snr, "v": jnp.logaddexp(log_snr, 0.0)}
    if predicts not in divisor:
        raise ValueError(f"predicts is {predicts!r}: the known ones are {', '.join(divisor)}.")
    with np.errstate(divide="ignore"):  # low may be 0
        return jnp.exp(jnp.clip(log_snr, np.log(low), np.log(high)) - divisor[predicts])


def hybrid(
    schedule: Schedule,
    output: Float["B ... 2C"],
    *,
    x0: Float["B ... C"],
    x_t: Float["B ... C"],
    t: Int["B"],
    noise: Float["B ... C"],
    predicts: str = "eps",
    vb_weight: float = VB_WEIGHT,
    snr_clip: tuple[float, float] | None = None,
) -> Float["B"]:
    """L_hybrid of a network that, in the second half of its channels, predicts Improved DDPM's v for the variance.

    Args:
      output: the network's raw answer at (x_t, t).
      x0: pixels in [-1, 1], levels of 8 bits.
      noise: the noise in x_t.
      predicts: what the first half of the channels is, one of `prediction.PREDICTS`; L_simple is its squared error.
      vb_weight: in place of 0.001. A network that predicts x0 wants less: until its errors are as small as the steps'
        deviations at t near 0, its L_vb there is thousands of bits, and drowns L_simple.
      snr_clip: as in `weighted_simple`.
    """
    answer, fraction = split_output(output, x0.shape[-1])
    if fraction is None:
        raise ValueError(f"the network answers {output.shape[-1]} channels: L_hybrid needs {2 * x0.shape[-1]}.")
    fixed = from_output(schedule, predicts, jax.lax.stop_gradient(answer), x_t, t)
    mean, _ = posterior(schedule, fixed.x0, x_t, t, t - 1)
    fraction, pull = _clipped(fraction)
    log_variance = variances.learned_range(schedule, fraction, t, t - 1)
    bound = pull + variational_bound(schedule, mean, log_variance, x0=x0, x_t=x_t, t=t, t_next=t - 1)
    error = weighted_simple(schedule, answer, x0=x0, t=t, noise=noise, predicts=predicts, snr_clip=snr_clip)
    return error + vb_weight * schedule.num_steps * bound


def clipped_fraction(output: Float["B ... 2C"], channels: int) -> Float["B"]:
    """Returns the share of each row's variance fractions that `hybrid` clips, given the network's raw output."""
    _, fraction = split_output(output, channels)
    low, high = FRACTION_RANGE
    return _row_mean((fraction < low) | (fraction > high))


def variational_bound(
    schedule: Schedule,
    mean: Float["B ..."],
    log_variance: Float["B ..."],
    *,
    x0: Float["B ..."],
    x_t: Float["B ..."],
    t: Int["B"],
    t_next: Int["B"],
) -> Float["B"]:
    """L_vb of the step from t to t_next for p = N(mean, exp(log_variance)), in bits a dimension."""
    true_mean, true_log_variance = posterior(schedule, x0, x_t, t, t_next)
    kl = gaussian_kl(true_mean, true_log_variance, mean, log_variance)
    nll = -discretised_log_likelihood(x0, mean, log_variance)
    return jnp.where(t_next < 0, _row_mean(nll), _row_mean(kl)) / np.log(2.0)


def bits_per_dimension(
    schedule: Schedule, denoiser: Denoiser, x0: Float["B ..."], keys: Key["B"], *, variance: str, path: Int["N+1"]
) -> Float["B"]:
    """The variational bound on each picture's negative log likelihood, L_vlb, in bits a dimension.

        L_vlb = L_prior + sum of L_vb over the steps of the path,   L_prior = KL( q(x_T | x_0) || N(0, I) )

    Args:
      denoiser: with the variance fraction where `variance` needs one.
      x0: pixels in [-1, 1], levels of 8 bits.
      keys: one a picture; the noise of step t comes from the key folded with t.
      variance: of the reverse variance, one of `variance.VARIANCES`.
      path: the steps from T-1 down to -1; all T of them give the bound of the trained chain (Improved DDPM, Eq. 4-7),
        fewer that of the shorter chain.
    """
    path = jnp.asarray(path, jnp.int32)

    def one_step(total: Float["B"], pair: tuple[Int[""], Int[""]]) -> tuple[Float["B"], None]:
        t, t_next = pair
        noise = rng.normal_rows(jax.vmap(lambda key: jax.random.fold_in(key, t))(keys), x0.shape[1:])
        x_t = q_sample(schedule, x0, t, noise)
        prediction = denoiser(x_t, jnp.full(x0.shape[0], t))
        mean, _ = posterior(schedule, prediction.x0, x_t, t, t_next)
        log_variance = variances.log_variance(variance, schedule, prediction, t, t_next)
        return total + variational_bound(schedule, mean, log_variance, x0=x0, x_t=x_t, t=t, t_next=t_next), None

    of_signal = per_row(schedule.signal_scale(path[0]), x0)
    prior = gaussian_kl(of_signal * x0, jnp.log(schedule.one_minus_alpha_bar(path[0])), 0.0, 0.0)
    total, _ = jax.lax.scan(one_step, _row_mean(prior) / np.log(2.0), (path[:-1], path[1:]))
    return total


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


def _clipped(fraction: Float["B ..."]) -> tuple[Float["B ..."], Float["B"]]:
    """Returns the fraction within its range, and a term of value 0 whose gradient leads back into the range."""
    low, high = FRACTION_RANGE
    limited = jax.lax.stop_gradient(jnp.clip(fraction, low, high))
    distance = _row_mean(jax.nn.relu(fraction - high) + jax.nn.relu(low - fraction))
    return jnp.where(fraction == limited, fraction, limited), distance - jax.lax.stop_gradient(distance)


def _row_mean(x: Float["B ..."]) -> Float["B"]:
    return jnp.mean(x, axis=tuple(range(1, x.ndim)))
