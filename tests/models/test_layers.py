import math

import jax.numpy as jnp
import numpy as np
import pytest

from tests import reference_networks as reference
from tests.randomised import initialised
from unclip_jax.models.layers import (
    GroupNorm,
    LayerNorm,
    TimeEmbedding,
    activation,
    position_sinusoids,
    timestep_sinusoid,
)


def test_timestep_sinusoid_has_cosines_first_and_descending_frequencies():
    actual = timestep_sinusoid(jnp.array([0, 7]), 4)
    # Frequencies 1 and 10000^(-1/2) = 0.01.
    expected = [[1.0, 1.0, 0.0, 0.0], [math.cos(7.0), math.cos(0.07), math.sin(7.0), math.sin(0.07)]]
    np.testing.assert_allclose(actual, expected, atol=1e-6)
    assert actual.dtype == jnp.float32


def test_timestep_sinusoid_is_precise_at_the_last_step():
    # The phase is at most 999 rad and has float32 rounding errors of 3e-5, as has its frequency.
    np.testing.assert_allclose(timestep_sinusoid(jnp.array([999]), 64), reference.sinusoid([999], 64), atol=1e-4)


def test_timestep_sinusoid_rejects_odd_width():
    with pytest.raises(ValueError, match="width of the timestep embedding must be even, got 5"):
        timestep_sinusoid(jnp.array([0]), 5)


def test_position_sinusoids_encode_rows_and_columns_with_unit_mean_square():
    actual = position_sinusoids(2, 9)  # frequencies 1 and 4^(-1/2); the ninth channel is 0
    wave = [[math.sqrt(2) * f(index * rate) for f in (math.sin, math.cos) for rate in (1.0, 0.5)] for index in (0, 1)]
    rows = [[0.0] * 8, wave[0] + wave[0], wave[0] + wave[1], wave[1] + wave[0], wave[1] + wave[1]]
    np.testing.assert_allclose(actual, np.pad(rows, ((0, 0), (0, 1))), atol=1e-6)
    assert actual.dtype == jnp.float32
    # sin^2 + cos^2 = 1 for row and column, so the mean square of each patch is 1.
    np.testing.assert_allclose(np.square(position_sinusoids(8, 128))[1:].mean(1), 1.0, rtol=1e-5)


def test_time_embedding_is_linear_silu_linear():
    module, x = TimeEmbedding(6), np.random.default_rng(0).standard_normal((2, 4))
    params = initialised(module, x)
    expected = reference.dense(params["linear_2"], reference.silu(reference.dense(params["linear_1"], x)))
    np.testing.assert_allclose(module.apply({"params": params}, x), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 4, 4, 12), (2, 7, 12)])
def test_group_norm_normalizes_adjacent_channels_together(shape):
    # The mean is 50 standard deviations, to detect cancellation and statistics of the wrong channels.
    x = 50.0 + np.random.default_rng(0).standard_normal(shape) * np.linspace(0.5, 2.0, 12)
    module = GroupNorm(groups=3)
    params = initialised(module, x)
    x = x.astype(np.float32)
    expected = reference.group_norm(params, x.astype(np.float64), 3)
    np.testing.assert_allclose(module.apply({"params": params}, x), expected, atol=2e-5)


def test_norms_compute_in_float32_and_return_their_dtype():
    # The mean is 20 standard deviations. Sums in bfloat16 would be wrong by several standard deviations.
    x = jnp.asarray(20.0 + np.random.default_rng(0).standard_normal((2, 64, 16)), jnp.bfloat16)
    exact = np.asarray(x, np.float64)
    for module, expected in (
        (GroupNorm(4, jnp.bfloat16), lambda p: reference.group_norm(p, exact, 4)),
        (LayerNorm(dtype=jnp.bfloat16), lambda p: reference.layer_norm(p, exact)),
    ):
        params = initialised(module, x)
        actual = module.apply({"params": params}, x)
        assert actual.dtype == jnp.bfloat16
        # The tolerance covers the rounding of the output, whose largest values are about 5.
        np.testing.assert_allclose(actual.astype(np.float32), expected(params), rtol=2**-8, atol=2e-3)


def test_layer_norm_normalizes_the_last_axis():
    x = 50.0 + np.random.default_rng(0).standard_normal((2, 3, 16)).astype(np.float32)
    params = initialised(LayerNorm(), x)
    expected = reference.layer_norm(params, x.astype(np.float64))
    np.testing.assert_allclose(LayerNorm().apply({"params": params}, x), expected, atol=2e-5)


def test_group_norm_rejects_groups_that_do_not_divide_the_channels():
    with pytest.raises(ValueError, match="groups must divide the number of channels 48, got 32. Try 16."):
        initialised(GroupNorm(32), np.ones((1, 2, 2, 48)))


def test_activations_are_exact_and_quick_gelu():
    x = jnp.array([-2.0, -0.5, 0.0, 1.0, 3.0])
    np.testing.assert_allclose(activation("gelu")(x), reference.gelu(np.asarray(x, np.float64)), atol=1e-6)
    np.testing.assert_allclose(activation("quick_gelu")(x), reference.quick_gelu(np.asarray(x, np.float64)), atol=1e-6)
    assert abs(float(activation("gelu")(x)[3] - activation("quick_gelu")(x)[3])) > 1e-3


def test_unknown_activation_is_rejected_with_available_names():
    with pytest.raises(ValueError, match="Unknown activation 'relu'. Available: gelu, quick_gelu"):
        activation("relu")
