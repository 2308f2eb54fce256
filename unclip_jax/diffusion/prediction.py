"""Predictions of a denoiser, and conversions between their parameterizations.

The parameterizations x0, eps and v (velocity; Salimans and Ho 2022, arXiv 2202.00512, Section 4) are related by

    x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps
    v   = sqrt(alpha_bar_t) eps - sqrt(1 - alpha_bar_t) x_0
"""

from flax import struct

from unclip_jax.arrays import Float, Int
from unclip_jax.diffusion.schedule import Schedule, per_row

PREDICTS = ("eps", "x0", "v")


@struct.dataclass
class Prediction:
    """Prediction of a denoiser at x_t, as arrays with the shape of x_t.

    Attributes:
      x0: The clean sample.
      eps: The noise.
      variance_fraction: Position of the log reverse variance between its bounds, (v + 1) / 2 in Improved DDPM (Nichol
        and Dhariwal 2021, Eq. 15), not clipped to [0, 1]. If None, the network does not predict the variance.
      gradient: Gradient of a log likelihood with respect to x_t that the sampler has yet to apply as guidance. If None,
        there is no such guidance.
    """

    x0: Float["B ..."]
    eps: Float["B ..."]
    variance_fraction: Float["B ..."] | None = None
    gradient: Float["B ..."] | None = None


def eps_to_x0(schedule: Schedule, eps: Float["B ..."], x_t: Float["B ..."], t: Int["B"]) -> Float["B ..."]:
    """Computes x0 from eps, which loses precision as alpha_bar_t approaches 0."""
    return (x_t - per_row(schedule.noise_scale(t), x_t) * eps) / per_row(schedule.signal_scale(t), x_t)


def x0_to_eps(schedule: Schedule, x0: Float["B ..."], x_t: Float["B ..."], t: Int["B"]) -> Float["B ..."]:
    """Computes eps from x0, which loses precision as alpha_bar_t approaches 1."""
    return (x_t - per_row(schedule.signal_scale(t), x_t) * x0) / per_row(schedule.noise_scale(t), x_t)


def velocity(schedule: Schedule, x0: Float["B ..."], eps: Float["B ..."], t: Int["B"]) -> Float["B ..."]:
    """Computes the velocity v from x0 and eps."""
    return per_row(schedule.signal_scale(t), x0) * eps - per_row(schedule.noise_scale(t), x0) * x0


def velocity_to_x0(schedule: Schedule, v: Float["B ..."], x_t: Float["B ..."], t: Int["B"]) -> Float["B ..."]:
    """Computes x0 from v, without loss of precision at any t."""
    return per_row(schedule.signal_scale(t), x_t) * x_t - per_row(schedule.noise_scale(t), x_t) * v


def velocity_to_eps(schedule: Schedule, v: Float["B ..."], x_t: Float["B ..."], t: Int["B"]) -> Float["B ..."]:
    """Computes eps from v, without loss of precision at any t."""
    return per_row(schedule.noise_scale(t), x_t) * x_t + per_row(schedule.signal_scale(t), x_t) * v


def check_predicts(predicts: str) -> None:
    """Raises ValueError if `predicts` is not one of `PREDICTS`."""
    if predicts not in PREDICTS:
        raise ValueError(f"predicts must be one of {', '.join(PREDICTS)}, got {predicts!r}.")


def target(
    schedule: Schedule, predicts: str, *, x0: Float["B ..."], noise: Float["B ..."], t: Int["B"]
) -> Float["B ..."]:
    """Computes the training target of a network.

    Args:
      schedule: The noise schedule.
      predicts: Parameterization of the network, one of `PREDICTS`.
      x0: Clean samples.
      noise: The noise in x_t.
      t: Training step of each row.

    Raises:
      ValueError: If `predicts` is unknown.
    """
    check_predicts(predicts)
    if predicts == "v":
        return velocity(schedule, x0, noise, t)
    return noise if predicts == "eps" else x0


def from_output(
    schedule: Schedule, predicts: str, output: Float["B ..."], x_t: Float["B ..."], t: Int["B"]
) -> Prediction:
    """Computes x0 and eps from a network's output.

    The predicted quantity itself is returned unchanged, at full precision.

    Args:
      schedule: The noise schedule.
      predicts: Parameterization of the network, one of `PREDICTS`.
      output: The network's output.
      x_t: Noisy samples.
      t: Training step of each row.

    Raises:
      ValueError: If `predicts` is unknown.
    """
    check_predicts(predicts)
    if predicts == "eps":
        return Prediction(x0=eps_to_x0(schedule, output, x_t, t), eps=output)
    if predicts == "x0":
        return Prediction(x0=output, eps=x0_to_eps(schedule, output, x_t, t))
    return Prediction(
        x0=velocity_to_x0(schedule, output, x_t, t),
        eps=velocity_to_eps(schedule, output, x_t, t),
    )


def absorb_gradient(prediction: Prediction, *, schedule: Schedule, t: Int["B"]) -> Prediction:
    """Applies a prediction's gradient to its eps and x0.

    This is Algorithm 2 of ADM (Dhariwal and Nichol 2021, arXiv 2105.05233):

        eps' = eps - sqrt(1 - alpha_bar_t) gradient,   hence   x0' = x0 + (1 - alpha_bar_t) / sqrt(alpha_bar_t) gradient

    x0' is computed from x0, because computing it from eps' would lose precision at large t.

    Args:
      prediction: The prediction. If its gradient is None, it is returned unchanged.
      schedule: The noise schedule.
      t: Training step of each row.
    """
    gradient = prediction.gradient
    if gradient is None:
        return prediction
    to_x0 = schedule.one_minus_alpha_bar(t) / schedule.signal_scale(t)
    return prediction.replace(
        x0=prediction.x0 + per_row(to_x0, gradient) * gradient,
        eps=prediction.eps - per_row(schedule.noise_scale(t), gradient) * gradient,
        gradient=None,
    )
