import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from unclip_jax.diffusion import losses
from unclip_jax.diffusion.denoiser import denoiser_from_network
from unclip_jax.diffusion.forward_process import q_sample
from unclip_jax.diffusion.schedule import cosine, linear
from unclip_jax.diffusion.timesteps import even_path

# avoids compiling every operation separately
hybrid = jax.jit(losses.hybrid, static_argnames="predicts")


def alpha_bars64(num_steps):
    betas = np.linspace(0.1 / num_steps, 20.0 / num_steps, num_steps)
    return np.append(np.cumprod(1 - betas), 1.0)  # linear; entry -1 is clean


def example(schedule, t, seed=0):
    x0, noise = jax.random.normal(jax.random.key(seed), (2, len(t), 4, 4, 3))
    x0 = jnp.clip(jnp.round(0.5 * x0 * 127.5) / 127.5, -1.0, 1.0)
    output = jax.random.normal(jax.random.key(seed + 1), (len(t), 4, 4, 6))
    return output, dict(x0=x0, x_t=q_sample(schedule, x0, t, noise), t=t, noise=noise)


def test_simple_is_the_mean_squared_error_per_row():
    prediction = jnp.array([[[1.0, 2.0]], [[0.0, 0.0]]])
    target = jnp.array([[[0.0, 4.0]], [[3.0, 0.0]]])
    np.testing.assert_allclose(losses.simple(prediction, target), [2.5, 4.5])
    assert losses.simple(prediction.astype(jnp.bfloat16), target).dtype == jnp.float32


@pytest.mark.parametrize("mean_p, log_variance_p", [(0.3, -2.0), (0.3, -2.7), (-0.5, -1.0)])
def test_gaussian_kl_equals_numerical_integration(mean_p, log_variance_p):
    x = np.linspace(-8, 8, 400_001)
    q, p = norm(0.3, np.exp(-1.0)), norm(mean_p, np.exp(0.5 * log_variance_p))
    expected = np.sum(q.pdf(x) * (q.logpdf(x) - p.logpdf(x))) * (x[1] - x[0])
    np.testing.assert_allclose(losses.gaussian_kl(0.3, -2.0, mean_p, log_variance_p), expected, atol=1e-6)


@pytest.mark.parametrize("deviation", [0.005, 0.1])
@pytest.mark.parametrize("level", [0, 1, 127, 200, 254, 255])
def test_discretized_log_likelihood_is_the_mass_of_the_bin(level, deviation):
    x0 = level / 127.5 - 1.0
    for mean in x0 + deviation * np.array([-4.8, -0.5, 0.0, 1.0, 4.8]):
        # Use survival functions on the right of the mean. Differences of values near 1 have no precision.
        upper, lower = (x0 + 1 / 255 - mean) / deviation, (x0 - 1 / 255 - mean) / deviation
        mass = norm.cdf(upper) - norm.cdf(lower) if mean >= x0 else norm.sf(lower) - norm.sf(upper)
        mass = {0: norm.cdf(upper), 255: norm.sf(lower)}.get(level, mass)
        actual = losses.discretized_log_likelihood(jnp.float32(x0), jnp.float32(mean), 2 * jnp.log(deviation))
        # Rounding of x0 and mean to float32 moves the bin by 1e-7 / deviation standard deviations.
        np.testing.assert_allclose(actual, np.log(max(mass, 1e-12)), rtol=2e-4, atol=2e-4)


def test_discretized_likelihoods_of_all_levels_sum_to_one():
    levels = jnp.arange(256) / 127.5 - 1.0
    for mean, deviation in ((0.1, 0.02), (-0.99, 0.2), (1.2, 0.3)):
        log_mass = losses.discretized_log_likelihood(levels, jnp.float32(mean), jnp.float32(2 * np.log(deviation)))
        np.testing.assert_allclose(np.sum(np.exp(log_mass)), 1.0, atol=1e-5)


def test_discretized_log_likelihood_and_gradient_are_finite_far_from_the_mean():
    def log_likelihood(mean, log_variance):
        return losses.discretized_log_likelihood(jnp.array([-1.0, 0.0, 1.0]), mean, log_variance).sum()

    assert np.isclose(log_likelihood(5.0, -10.0), 2 * np.log(1e-12) + 0.0, rtol=1e-5)
    assert np.isfinite(jax.grad(log_likelihood, argnums=(0, 1))(5.0, -10.0)).all()


@pytest.mark.parametrize(("num_steps", "predicts"), [(100, "eps"), (1000, "eps"), (1000, "x0"), (1000, "v")])
def test_hybrid_equals_its_formula(num_steps, predicts):
    """Expected values are float64 formulas per row; the means of q and p differ only in x0."""
    schedule, a = linear(num_steps), alpha_bars64(num_steps)
    t = np.array([0, 1, 7, num_steps - 1])
    output, given = example(schedule, t)
    actual = hybrid(schedule, output, **given, predicts=predicts)
    raw, v = np.split(np.asarray(output, np.float64), 2, axis=-1)
    x0, x_t, noise = (np.asarray(given[name], np.float64) for name in ("x0", "x_t", "noise"))
    for row, step in enumerate(t):
        signal, sigma = np.sqrt(a[step]), np.sqrt(1 - a[step])
        target = {"eps": noise[row], "x0": x0[row], "v": signal * noise[row] - sigma * x0[row]}[predicts]
        simple = np.mean((raw[row] - target) ** 2)
        of_eps, of_v = (x_t[row] - sigma * raw[row]) / signal, signal * x_t[row] - sigma * raw[row]
        guess = {"eps": of_eps, "x0": raw[row], "v": of_v}[predicts]
        beta, past = 1 - a[step] / a[step - 1], max(step, 1)
        small = (1 - a[past - 1]) / (1 - a[past]) * (1 - a[past] / a[past - 1])
        fraction = (v[row] + 1) / 2
        deviation = np.sqrt(beta**fraction * small ** (1 - fraction))
        if step == 0:
            upper, lower = (x0[row] + 1 / 255 - guess) / deviation, (x0[row] - 1 / 255 - guess) / deviation
            upper, lower = np.where(x0[row] > 0.999, np.inf, upper), np.where(x0[row] < -0.999, -np.inf, lower)
            bound = -np.mean(np.log(np.maximum(norm.cdf(upper) - norm.cdf(lower), 1e-12)))
        else:
            gap = np.sqrt(a[step - 1]) * beta / (1 - a[step]) * (x0[row] - guess)
            ratio = small / deviation**2
            bound = np.mean(0.5 * (ratio - 1 - np.log(ratio) + gap**2 / deviation**2))
        expected = simple + 0.001 * num_steps * bound / np.log(2)
        assert bound > 0.01 or step > 900  # the bound contributes, except at the noisy end
        np.testing.assert_allclose(actual[row], expected, rtol=1e-3)


def test_snr_clip_weights_the_squared_error_but_not_the_bound():
    schedule, t = linear(1000), np.array([0, 100, 300, 700])
    output, given = example(schedule, t)
    plain = hybrid(schedule, output, **given, predicts="x0")
    weighted = jax.jit(losses.hybrid, static_argnames=("predicts", "snr_clip"))(
        schedule, output, **given, predicts="x0", snr_clip=(0.0, 5.0)
    )
    squared = losses.simple(output[..., :3], given["x0"])
    a = alpha_bars64(1000)[t]
    expected = (np.minimum(a / (1 - a), 5.0) - 1.0) * squared
    # The bound is thousands of bits at t = 0, of which float32 has seven digits.
    np.testing.assert_allclose(weighted - plain, expected, rtol=1e-3, atol=2e-6 * np.max(plain))
    assert np.max(np.abs(expected)) > 0.5


def test_hybrid_is_zero_for_a_perfect_prediction_with_the_small_variance():
    schedule = cosine(1000)
    t = np.array([1, 30, 500])
    _, given = example(schedule, t)
    output = jnp.concatenate([given["noise"], -jnp.ones_like(given["noise"])], axis=-1)
    np.testing.assert_allclose(hybrid(schedule, output, **given), 0.0, atol=1e-5)


def test_variational_bound_trains_only_the_variance():
    schedule = cosine(100)
    output, given = example(schedule, np.array([0, 1, 3, 10]))  # at later steps the two variances are nearly equal
    eps, v = jnp.split(output, 2, axis=-1)

    @jax.jit
    def total(eps, v):
        return losses.hybrid(schedule, jnp.concatenate([eps, v], axis=-1), **given).sum()

    of_eps, of_v = jax.jit(jax.grad(total, argnums=(0, 1)))(eps, v)
    simple = jax.grad(lambda eps: losses.simple(eps, given["noise"]).sum())(eps)
    np.testing.assert_allclose(of_eps, simple, rtol=1e-6)
    for row in range(4):
        assert np.max(np.abs(of_v[row])) > 1e-5
    step = 0.01 * jnp.sign(of_v)
    slope = (total(eps, v + step) - total(eps, v - step)) / 0.02
    np.testing.assert_allclose(slope, np.sum(np.abs(of_v)), rtol=0.01)


def test_hybrid_rows_are_independent():
    schedule = cosine(100)
    output, given = example(schedule, np.array([0, 20, 99]))
    together = hybrid(schedule, output, **given)
    for row in range(3):
        alone = hybrid(schedule, output[row : row + 1], **{k: v[row : row + 1] for k, v in given.items()})
        np.testing.assert_allclose(alone[0], together[row], rtol=1e-6)


def test_hybrid_rejects_a_network_without_variance():
    schedule = cosine(100)
    output, given = example(schedule, np.array([5]))
    with pytest.raises(ValueError, match="must have 6 channels for L_hybrid, got 3"):
        losses.hybrid(schedule, output[..., :3], **given)


@pytest.mark.parametrize("predicts", ["x0", "eps", "v"])
@pytest.mark.parametrize("clip", [(0.0, 5.0), (1.0, np.inf), (0.5, 20.0)], ids=["min-snr", "truncated", "both"])
def test_snr_weight_of_x0_errors_is_equal_for_all_parameterizations(predicts, clip):
    a = alpha_bars64(1000)[:-1]
    snr = a / (1 - a)
    expected = np.clip(snr, *clip) / {"x0": 1.0, "eps": snr, "v": snr + 1.0}[predicts]
    actual = losses.snr_weight(linear(1000), jnp.arange(1000), predicts=predicts, clip=clip)
    np.testing.assert_allclose(actual, expected, rtol=2e-4)
    with pytest.raises(ValueError, match="predicts must be one of x0, eps, v, got 'x1'"):
        losses.snr_weight(linear(1000), 5, predicts="x1", clip=clip)


def test_bits_per_dimension_of_gaussian_data_equal_the_entropy(schedule, gaussian_oracle):
    """With the ideal denoiser and the exact reverse variance of each step, the bound equals the entropy of the data.

    A gray level is 2 / 255 wide, so an image of n independent levels needs n (h + log2(127.5)) bits. h is the
    differential entropy log2(0.3 sqrt(2 pi e)), adjusted for the variance of the sample.
    """
    deviation, path = 0.3, even_path(50)
    x0 = jnp.round(deviation * jax.random.normal(jax.random.key(0), (4, 32, 32, 1)) * 127.5) / 127.5
    keys = jax.random.split(jax.random.key(1), 4)
    next_of = jnp.full(1000, -1).at[path[:-1]].set(path[1:])
    denoiser = gaussian_oracle(schedule, next_of, 0.0, deviation)

    def bits(variance):
        measure = jax.jit(functools.partial(losses.bits_per_dimension, schedule, denoiser, variance=variance))
        return np.mean(measure(x0, keys, path=path))

    measured = np.mean(np.square(x0)) / deviation**2  # variance of the sample, relative to that of the distribution
    entropy = np.log2(deviation * np.sqrt(2 * np.pi)) + 0.5 * measured / np.log(2) + np.log2(127.5)
    exact = bits("learned_range")
    assert abs(exact - entropy) < 0.06
    assert bits("fixed_small") > exact + 0.02 and bits("fixed_large") > exact + 0.02


def test_bits_per_dimension_increase_with_the_error_of_the_denoiser():
    schedule = cosine(100)
    x0 = jnp.zeros((2, 4, 4, 1))
    keys = jax.random.split(jax.random.key(0), 2)
    path = even_path(100, 100)
    bits = [
        losses.bits_per_dimension(
            schedule,
            denoiser_from_network(lambda x, t, off=off: jnp.full_like(x, off), schedule=schedule, predicts="x0"),
            x0,
            keys,
            variance="fixed_large",
            path=path,
        )
        for off in (0.0, 0.1)
    ]
    # A prediction that is off by d adds gain^2 d^2 / (2 beta) nats to the KL of all steps but the last.
    a = np.append(np.cos((np.arange(1, 101) / 100 + 0.008) / 1.008 * np.pi / 2) ** 2, 0.0)
    a = np.append(np.cumprod(np.maximum(a[:100] / np.append(np.cos(0.008 / 1.008 * np.pi / 2) ** 2, a[:99]), 0.001)), 1)
    t = np.arange(1, 100)
    beta = 1 - a[t] / a[t - 1]
    expected = np.sum(a[t - 1] * beta / (1 - a[t]) ** 2) * 0.1**2 / 2 / np.log(2)
    last = losses.discretized_log_likelihood(0.0, jnp.array([0.1, 0.0]), jnp.log(beta[0] * (1 - a[0]) / (1 - a[1])))
    np.testing.assert_allclose(bits[1] - bits[0], expected + (last[1] - last[0]) / np.log(2), rtol=1e-3)
