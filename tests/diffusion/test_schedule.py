import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unclip_jax.diffusion.schedule import by_name, cosine, linear, per_row


def betas64(name, num_steps):
    """Returns the betas of Improved DDPM's code in float64."""
    if name == "linear":
        return np.linspace(0.1 / num_steps, 20.0 / num_steps, num_steps)
    bar = [np.cos((i / num_steps + 0.008) / 1.008 * np.pi / 2) ** 2 for i in range(num_steps + 1)]
    return np.array([min(1 - bar[i + 1] / bar[i], 0.999) for i in range(num_steps)])


def test_cosine_matches_published_values():
    s = cosine(1000)
    expected = {0: 0.99995872, 249: 0.847012, 250: 0.84588802, 499: 0.493844, 998: 2.428767e-06, 999: 2.428767e-09}
    for t, alpha_bar in expected.items():
        np.testing.assert_allclose(s.alpha_bar(t), alpha_bar, rtol=2e-6)
    for t, beta in {0: 4.128422e-05, 1: 4.6142e-05, 2: 5.0999e-05, 999: 0.999}.items():
        np.testing.assert_allclose(s.beta(t, t - 1), beta, rtol=1e-5)
    t = jnp.arange(1000)
    assert np.sum(np.asarray(s.beta(t, t - 1)) > 0.9985) == 1  # exactly one beta is clipped


def test_cosine_of_4000_steps_matches_published_values():
    s = cosine(4000)
    np.testing.assert_allclose(s.beta(0, -1), 9.865819e-06, rtol=1e-5)
    np.testing.assert_allclose(s.alpha_bar(3999), 1.517980e-10, rtol=3e-6)


def test_linear_matches_published_values():
    s = linear(1000)
    for t, alpha_bar in {249: 0.524085, 499: 0.0785872, 999: 4.035830e-05}.items():
        np.testing.assert_allclose(s.alpha_bar(t), alpha_bar, rtol=2e-6)
    np.testing.assert_allclose(s.signal_scale(999), 6.3528e-03, rtol=1e-5)


@pytest.mark.parametrize("name", ["cosine", "linear"])
@pytest.mark.parametrize("num_steps", [100, 1000])
def test_schedule_keeps_precision_of_small_values(name, num_steps):
    # Computed from a float32 alpha_bar, beta at t = 1 would be wrong by 1e-3.
    s, betas, t = by_name(name, num_steps), betas64(name, num_steps), np.arange(num_steps)
    one_minus = -np.expm1(np.cumsum(np.log1p(-betas)))
    np.testing.assert_allclose(s.one_minus_alpha_bar(t), one_minus, rtol=1e-6)
    np.testing.assert_allclose(s.noise_scale(t), np.sqrt(one_minus), rtol=1e-6)
    np.testing.assert_allclose(s.beta(t, t - 1)[:20], betas[:20], rtol=5e-6)
    # At later steps, log alpha_bar is of order 1 to 10, with rounding errors of up to 5e-7.
    np.testing.assert_allclose(s.beta(t, t - 1), betas, rtol=2e-4)


def test_step_minus_one_is_clean():
    s = cosine(1000)
    assert s.alpha_bar(-1) == 1.0 and s.signal_scale(-1) == 1.0
    assert s.one_minus_alpha_bar(-1) == 0.0 and s.noise_scale(-1) == 0.0
    np.testing.assert_array_equal(s.one_minus_alpha_bar(jnp.array([-1, 3, -1])) == 0.0, [True, False, True])
    assert s.beta(7, 7) == 0.0


def test_schedule_can_be_passed_to_a_jitted_function():
    traces = []

    @jax.jit
    def beta(s, t, t_next):
        traces.append(1)
        return s.beta(t, t_next)

    for s in (cosine(1000), linear(1000)):
        for t, t_next in ((0, -1), (500, 400), (999, -1)):
            assert s.num_steps == 1000
            np.testing.assert_allclose(beta(s, t, t_next), s.beta(t, t_next), rtol=1e-6)
    assert len(traces) == 1
    assert {leaf.dtype for leaf in jax.tree.leaves(cosine(1000))} == {jnp.dtype("float32")}


def test_per_row_broadcasts_over_rows():
    x = jnp.ones((2, 3, 4, 5))
    np.testing.assert_array_equal((per_row(jnp.array([2.0, 3.0]), x) * x)[:, 0, 0, 0], [2.0, 3.0])
    assert per_row(jnp.float32(2.0), x).shape == (1, 1, 1, 1)


def test_schedule_rejects_unknown_names_and_too_few_steps():
    with pytest.raises(ValueError, match="Unknown noise schedule 'sqrt'. Available: cosine, linear."):
        by_name("sqrt", 1000)
    with pytest.raises(ValueError, match="num_steps must be at least 2 for the cosine schedule, got 1."):
        cosine(1)
    with pytest.raises(ValueError, match="num_steps must be at least 21 for the linear schedule, got 20."):
        linear(20)
