"""What a denoiser says about x_t, and how the views of it convert.

    x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps
    v   = sqrt(alpha_bar_t) eps - sqrt(1 - alpha_bar_t) x_0            the velocity (arXiv 2202.00512, section 4)
"""

from flax import struct

from unclip_jax.arrays import Float, Int
from unclip_jax.diffusion.schedule import Schedule, per_row

PREDICTS = ("eps", "x0", "v")


@struct.dataclass
class Prediction:
    """A denoiser's answer at x_t; arrays of x_t's shape.

    x0: the clean picture.
    eps: the noise.
    variance_fraction: (v + 1) / 2 of Improved DDPM's Eq. 15, where the reverse variance lies between its bounds (not
      clipped to [0, 1]); None where the network does not predict it.
    gradient: of a log likelihood with respect to x_t, guidance that the sampler still has to add; None for none.
    """

    x0: Float["B ..."]
    eps: Float["B ..."]
    variance_fraction: Float["B ..."] | None = None
    gradient: Float["B ..."] | None = None


def eps_to_x0(schedule: Schedule, eps: Float["B ..."], x_t: Float["B ..."], t: Int["B"]) -> Float["B ..."]:
    """The clean picture that x_t holds if its noise is eps. Loses digits as alpha_bar_t goes to 0."""
    return (x_t - per_row(schedule.noise_scale(t), x_t) * eps) / per_row(schedule.signal_scale(t), x_t)


def x0_to_eps(schedule: Schedule, x0: Float["B ..."], x_t: Float["B ..."], t: Int["B"]) -> Float["B ..."]:
    """The noise that x_t holds if its clean picture is x0. Loses digits as alpha_bar_t goes to 1."""
    return (x_t - per_row(schedule.signal_scale(t), x_t) * x0) / per_row(schedule.noise_scale(t), x_t)


def velocity(schedule: Schedule, x0: Float["B ..."], eps: Float["B ..."], t: Int["B"]) -> Float["B ..."]:
    """v of a clean picture and its noise."""
    return per_row(schedule.signal_scale(t), x0) * eps - per_row(schedule.noise_scale(t), x0) * x0


def velocity_to_x0(schedule: Schedule, v: Float["B ..."], x_t: Float["B ..."], t: Int["B"]) -> Float["B ..."]:
    """The clean picture that x_t holds if its velocity is v. Loses no digits at any t."""
    return per_row(schedule.signal_scale(t), x_t) * x_t - per_row(schedule.noise_scale(t), x_t) * v


def velocity_to_eps(schedule: Schedule, v: Float["B ..."], x_t: Float["B ..."], t: Int["B"]) -> Float["B ..."]:
    """The noise that x_t holds if its velocity is v. Loses no digits at any t."""
    return per_row(schedule.noise_scale(t), x_t) * x_t + per_row(schedule.signal_scale(t), x_t) * v


def check_predicts(predicts: str) -> None:
    """Raises ValueError for what no network predicts."""
    if predicts not in PREDICTS:
        raise ValueError(f"predicts is {predicts!r}: the known ones are {', '.join(PREDICTS)}.")


def target(
    schedule: Schedule, predicts: str, *, x0: Float["B ..."], noise: Float["B ..."], t: Int["B"]
) -> Float["B ..."]:
    """What a network that predicts one of `PREDICTS` is to answer at the x_t of x0 and noise."""
    check_predicts(predicts)
    if predicts == "v":
        return velocity(schedule, x0, noise, t)
    return noise if predicts == "eps" else x0


def from_output(
    schedule: Schedule, predicts: str, output: Float["B ..."], x_t: Float["B ..."], t: Int["B"]
) -> Prediction:
    """Both views of x_t from a network's answer, one of `PREDICTS`. What it predicts keeps all its digits."""
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
    """The gradient taken into the prediction itself, ADM's (arXiv 2105.05233) Algorithm 2.

        eps' = eps - sqrt(1 - alpha_bar_t) gradient,   hence   x0' = x0 + (1 - alpha_bar_t) / sqrt(alpha_bar_t) gradient

    x0 is moved and not derived from eps', which would cost it digits at large t.
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
