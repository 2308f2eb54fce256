"""Training losses per row, which callers average over the rows.

    L_simple = mean over a row's elements of (prediction - target)^2
    L_hybrid = L_simple + 0.001 T L_vb(t)
    L_vb(t)  = KL( q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t) ) at t > 0, -log p(x_0 | x_1) at t = 0

L_simple is Eq. 14 of DDPM (Ho et al. 2020, arXiv 2006.11239), and L_hybrid is Eq. 16 of Improved DDPM (Nichol and
Dhariwal 2021, arXiv 2102.09672). L_vb is in bits per dimension. In L_hybrid it trains only the variance, because no
gradient flows through its mean.

L_hybrid clips the variance fraction to `FRACTION_RANGE`, because exp(-log variance) of an unbounded fraction overflows.
No gradient flows through a clipped value, since the slope of L_vb at a limit may point outward. Instead, a term whose
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
HALF_BIN = 1.0 / 255.0  # half the distance between adjacent 8-bit levels in [-1, 1]
_FAR = 100.0  # number of standard deviations at which the normal CDF is 0 or 1 in float32


def simple(prediction: Float["B ..."], target: Float["B ..."]) -> Float["B"]:
    """Computes the mean squared error of each row in float32."""
    return _row_mean(jnp.square(prediction.astype(jnp.float32) - target.astype(jnp.float32)))


def weighted_simple(
    schedule: Schedule,
    output: Float["B ..."],
    *,
    x0: Float["B ..."],
    t: Int["B"],
    noise: Float["B ..."],
    predicts: str,
    snr_clip: tuple[float, float] | None,
) -> Float["B"]:
    """Computes L_simple of a network's output at step t, weighted by the SNR.

    Args:
      schedule: The noise schedule.
      output: The network's prediction.
      x0: Clean samples.
      t: Training step of each row.
      noise: The noise in x_t.
      predicts: Parameterization of the output, one of `prediction.PREDICTS`.
      snr_clip: (low, high) of `snr_weight`. If None, all steps have weight 1.

    Raises:
      ValueError: If `predicts` is unknown.
    """
    error = simple(output, target(schedule, predicts, x0=x0, noise=noise, t=t))
    return error if snr_clip is None else error * snr_weight(schedule, t, predicts=predicts, clip=snr_clip)


def snr_weight(schedule: Schedule, t: Int["B"], *, predicts: str, clip: tuple[float, float]) -> Float["B"]:
    """Computes the weight of each row's L_simple from SNR = alpha_bar_t / (1 - alpha_bar_t).

    With w = min(max(SNR, low), high), the weight is

        w if the network predicts x0, w / SNR for eps, w / (SNR + 1) for v

    so that an error of x0 has the same weight in all three parameterizations. Between the limits, the weighted loss
    equals the unweighted loss of eps. (0, gamma) is Min-SNR (Hang et al. 2023, arXiv 2303.09556), and (1, inf) is the
    truncated SNR of progressive distillation (Salimans and Ho 2022, arXiv 2202.00512, Section 4).

    Args:
      schedule: The noise schedule.
      t: Training step of each row.
      predicts: Parameterization, one of `prediction.PREDICTS`.
      clip: (low, high). `low` may be 0 and `high` may be infinite.

    Raises:
      ValueError: If `predicts` is unknown.
    """
    low, high = clip
    log_snr = schedule.log_snr(t)
    divisor = {"x0": 0.0, "eps": log_snr, "v": jnp.logaddexp(log_snr, 0.0)}
    if predicts not in divisor:
        raise ValueError(f"predicts must be one of {', '.join(divisor)}, got {predicts!r}.")
    with np.errstate(divide="ignore"):  # if low is 0
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
    """Computes L_hybrid of a network that also predicts the variance.

    Args:
      schedule: The noise schedule.
      output: The network's raw output at (x_t, t). The second half of the channels is Improved DDPM's v.
      x0: Images in [-1, 1] with 8-bit levels.
      x_t: Noisy images.
      t: Training step of each row.
      noise: The noise in x_t.
      predicts: Parameterization of the first half, one of `prediction.PREDICTS`. L_simple is its squared error.
      vb_weight: Weight of T L_vb. Networks that predict x0 need a smaller weight than 0.001. Until their errors near
        t = 0 are as small as the standard deviation of a step, L_vb is thousands of bits there and dominates L_simple.
      snr_clip: (low, high) of `snr_weight`. If None, all steps have weight 1.

    Raises:
      ValueError: If the output has no variance channels or `predicts` is unknown.
    """
    predicted, fraction = split_output(output, x0.shape[-1])
    if fraction is None:
        expected = 2 * x0.shape[-1]
        raise ValueError(f"The network's output must have {expected} channels for L_hybrid, got {output.shape[-1]}.")
    fixed = from_output(schedule, predicts, jax.lax.stop_gradient(predicted), x_t, t)
    mean, _ = posterior(schedule, fixed.x0, x_t, t, t - 1)
    fraction, pull = _clipped(fraction)
    log_variance = variances.learned_range(schedule, fraction, t, t - 1)
    bound = pull + variational_bound(schedule, mean, log_variance, x0=x0, x_t=x_t, t=t, t_next=t - 1)
    error = weighted_simple(schedule, predicted, x0=x0, t=t, noise=noise, predicts=predicts, snr_clip=snr_clip)
    return error + vb_weight * schedule.num_steps * bound


def clipped_fraction(output: Float["B ... 2C"], channels: int) -> Float["B"]:
    """Computes the proportion of each row's variance fractions that `hybrid` clips.

    Args:
      output: The network's raw output.
      channels: Number of channels of x_t.
    """
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
    """Computes L_vb of the step from t to t_next in bits per dimension.

    Args:
      schedule: The noise schedule.
      mean: Mean of p(x_next | x_t).
      log_variance: Its log variance.
      x0: Images in [-1, 1] with 8-bit levels.
      x_t: Noisy images at step t.
      t: One step per row, or a scalar.
      t_next: The cleaner step. -1 selects the likelihood of x0.
    """
    true_mean, true_log_variance = posterior(schedule, x0, x_t, t, t_next)
    kl = gaussian_kl(true_mean, true_log_variance, mean, log_variance)
    nll = -discretized_log_likelihood(x0, mean, log_variance)
    return jnp.where(t_next < 0, _row_mean(nll), _row_mean(kl)) / np.log(2.0)


def bits_per_dimension(
    schedule: Schedule, denoiser: Denoiser, x0: Float["B ..."], keys: Key["B"], *, variance: str, path: Int["N+1"]
) -> Float["B"]:
    """Computes the variational bound L_vlb on each image's negative log likelihood in bits per dimension.

        L_vlb = L_prior + sum of L_vb over the steps of the path,   L_prior = KL( q(x_T | x_0) || N(0, I) )

    Args:
      schedule: The noise schedule.
      denoiser: The model. It must predict the variance fraction if `variance` is "learned_range".
      x0: Images in [-1, 1] with 8-bit levels.
      keys: One key per image. The noise of step t comes from the key folded with t.
      variance: Reverse variance, one of `variance.VARIANCES`.
      path: Steps from T-1 down to -1. All T steps give the bound of the trained chain (Nichol and Dhariwal 2021, Eq. 4
        to 7), fewer steps that of the respaced chain.
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
    """Computes KL(q || p) of two univariate Gaussians elementwise, in nats."""
    ratio = log_variance_q - log_variance_p
    return 0.5 * (jnp.exp(ratio) - 1.0 - ratio + jnp.square(mean_q - mean_p) * jnp.exp(-log_variance_p))


def discretized_log_likelihood(
    x0: Float["B ..."], mean: Float["B ..."], log_variance: Float["B ..."]
) -> Float["B ..."]:
    """Computes the log probability of x0's 8-bit level elementwise, in nats (Ho et al. 2020, Eq. 13).

    The outermost bins extend to infinity. The result is at least log(1e-12), as in the original implementation.

    Args:
      x0: Images in [-1, 1] with 8-bit levels.
      mean: Mean of the Gaussian.
      log_variance: Its log variance.
    """
    scale = jnp.exp(-0.5 * log_variance)
    upper = jnp.where(x0 > 0.999, _FAR, (x0 + HALF_BIN - mean) * scale)
    lower = jnp.where(x0 < -0.999, -_FAR, (x0 - HALF_BIN - mean) * scale)
    # Mirror bins to the left of the mean. On its right, the difference of two values near 1 has no precision.
    right = x0 > mean
    mass = ndtr(jnp.where(right, -lower, upper)) - ndtr(jnp.where(right, -upper, lower))
    return jnp.log(jnp.maximum(mass, 1e-12))


def _clipped(fraction: Float["B ..."]) -> tuple[Float["B ..."], Float["B"]]:
    """Returns the clipped fraction, and a term of value 0 whose gradient points back into the range."""
    low, high = FRACTION_RANGE
    limited = jax.lax.stop_gradient(jnp.clip(fraction, low, high))
    distance = _row_mean(jax.nn.relu(fraction - high) + jax.nn.relu(low - fraction))
    return jnp.where(fraction == limited, fraction, limited), distance - jax.lax.stop_gradient(distance)


def _row_mean(x: Float["B ..."]) -> Float["B"]:
    return jnp.mean(x, axis=tuple(range(1, x.ndim)))
